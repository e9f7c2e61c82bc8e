<?php
// One HTTP call as a PHP application makes it: a JSON object on stdin
//   {url, method, headers, body, form, proxy, unix, timeout_ms}
// where `form` is sent as `http_build_query` makes it, and a `body` that is an object as multipart;
// and on stdout {status, headers, body} or {error}.

$call = json_decode(stream_get_contents(STDIN), true);
$headers = [];
$curl = curl_init($call['url']);
curl_setopt_array($curl, [
    CURLOPT_CUSTOMREQUEST => $call['method'] ?? 'GET',
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => $call['headers'] ?? [],
    CURLOPT_TIMEOUT_MS => $call['timeout_ms'] ?? 10000,
    CURLOPT_PROXY => $call['proxy'] ?? '',
    CURLOPT_HEADERFUNCTION => function ($_, string $line) use (&$headers) {
        if (str_contains($line, ':')) {
            [$name, $value] = explode(':', $line, 2);
            $headers[strtolower($name)] = trim($value);
        }
        return strlen($line);
    },
]);
if (isset($call['body'])) {
    curl_setopt($curl, CURLOPT_POSTFIELDS, $call['body']);
}
if (isset($call['form'])) {
    curl_setopt($curl, CURLOPT_POSTFIELDS, http_build_query($call['form']));
}
if (isset($call['unix'])) {
    curl_setopt($curl, CURLOPT_UNIX_SOCKET_PATH, $call['unix']);
}
$body = curl_exec($curl);
echo json_encode(curl_errno($curl) !== 0
    ? ['error' => curl_error($curl)]
    : ['status' => curl_getinfo($curl, CURLINFO_RESPONSE_CODE), 'headers' => $headers, 'body' => $body]), "\n";
