<?php
// Many HTTP calls at once, as a PHP application makes them: a JSON list of {url, body} on stdin,
// and on stdout one line {status, body} or {error} for each, in the same order.

$calls = [];
$multi = curl_multi_init();
foreach (json_decode(stream_get_contents(STDIN), true) as $call) {
    $curl = curl_init($call['url']);
    curl_setopt_array($curl, [
        CURLOPT_POSTFIELDS => $call['body'],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT_MS => 30000,
        CURLOPT_PROXY => '',
    ]);
    curl_multi_add_handle($multi, $curl);
    $calls[] = $curl;
}
do {
    curl_multi_exec($multi, $running);
    curl_multi_select($multi);
} while ($running > 0);
// The errors of the single calls are told here only.
$errors = [];
while ($done = curl_multi_info_read($multi)) {
    if ($done['result'] !== CURLE_OK) {
        $errors[array_search($done['handle'], $calls, true)] = curl_strerror($done['result']);
    }
}
foreach ($calls as $n => $curl) {
    echo json_encode(isset($errors[$n])
        ? ['error' => $errors[$n]]
        : ['status' => curl_getinfo($curl, CURLINFO_RESPONSE_CODE), 'body' => curl_multi_getcontent($curl)]), "\n";
}
