<?php
// Stands in for the Yar client extension: sends as it sends, reads an answer as strictly as it reads.
// Takes one JSON object on stdin:
//   {url, method, params, packager, provider, token, proxy, unix, keep_alive, timeout_ms, headers, times, charset}
// where `charset` is that of the program's strings,
// and prints one JSON line per call: {"ok":true,"value":…,"type":…} or
//   {"exception":class,"message":…,"code":…,"type":…}; `silent_null` marks the answers
// which the extension would hand to its caller as a null without a word.

require __DIR__ . '/yar_message.php';

final class Failure extends Exception
{
    public function __construct(public string $class, string $text, public mixed $yarCode, public string $type = 'Yar_Exception_Client')
    {
        parent::__construct($text);
    }
}

function transport(string $text): Failure { return new Failure('Yar_Client_Transport_Exception', $text, 16); }
function protocol(string $text): Failure { return new Failure('Yar_Client_Protocol_Exception', $text, 2); }
function packager(string $text): Failure { return new Failure('Yar_Client_Packager_Exception', $text, 1); }

/** The body of the answer, or a transport exception. */
function post(CurlHandle $curl, array $call, string $message): string
{
    $url = parse_url($call['url']);
    $keep = $call['keep_alive'] ?? false;
    $headers = $keep
        ? ['Connection: Keep-Alive', 'Keep-Alive: 300']
        : ['Connection: close'];
    $headers[] = 'Hostname: ' . $url['host'];
    curl_reset($curl);
    curl_setopt_array($curl, [
        CURLOPT_URL => $call['url'],
        CURLOPT_POST => true,
        CURLOPT_POSTFIELDS => $message,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HTTPHEADER => [...$headers, 'Expect:', ...($call['headers'] ?? [])],
        CURLOPT_USERAGENT => 'PHP Yar RPC-2.4.1-dev',
        CURLOPT_TIMEOUT_MS => $call['timeout_ms'] ?? 5000,
        CURLOPT_CONNECTTIMEOUT_MS => 1000,
        CURLOPT_NOSIGNAL => true,
        CURLOPT_PROXY => $call['proxy'] ?? '',
        CURLOPT_FRESH_CONNECT => !$keep,
    ]);
    if (!$keep) {
        // The extension reads until the peer closes, whatever Content-Length says.
        curl_setopt($curl, CURLOPT_IGNORE_CONTENT_LENGTH, 1);
    }
    if (isset($call['unix'])) {
        curl_setopt($curl, CURLOPT_UNIX_SOCKET_PATH, $call['unix']);
    }
    $body = curl_exec($curl);
    if (curl_errno($curl) !== 0) {
        throw transport("curl exec failed '" . curl_strerror(curl_errno($curl)) . "'");
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($status !== 200) {
        throw transport("server responsed non-200 code '$status'");
    }
    return $body;
}

/** The answer over tcp:// or unix://, read as the extension's socket transport reads it. */
function exchange(array $call, string $message): string
{
    static $kept = null;
    $keep = $call['keep_alive'] ?? false;
    $timeout = ($call['timeout_ms'] ?? 5000) / 1000;
    $GLOBALS['connects'] = 0;
    [$read, $write, $except] = [[$kept], null, null];
    if ($kept !== null && stream_select($read, $write, $except, 0)) {
        // nothing was asked for: the other side has closed
        $kept = null;
    }
    $socket = $kept;
    if ($socket === null) {
        $socket = @stream_socket_client($call['url'], $number, $text, 1);
        if ($socket === false) {
            throw transport("Unable to connect to {$call['url']} ($text)");
        }
        $GLOBALS['connects'] = 1;
    }
    if ($keep) {
        $message = substr_replace($message, pack('N', 1), 10, 4);
    }
    for ($sent = 0; $sent < strlen($message); $sent += $part) {
        $part = @fwrite($socket, substr($message, $sent));
        if ($part === false || $part === 0) {
            throw transport('unable to send data');
        }
    }
    $keep || stream_socket_shutdown($socket, STREAM_SHUT_WR);
    $answer = '';
    $whole = YAR_HEADER;
    while (strlen($answer) < $whole) {
        [$read, $write, $except] = [[$socket], null, null];
        if (!stream_select($read, $write, $except, (int) $timeout, (int) (fmod($timeout, 1) * 1e6))) {
            throw transport('select timeout ' . $call['timeout_ms'] . 'ms reached');
        }
        $part = stream_socket_recvfrom($socket, 1 << 16);
        if ($part === '' || $part === false) {
            throw transport('server closed connection prematurely');
        }
        if ($answer === '') {
            if (strlen($part) < YAR_HEADER) {
                throw protocol('insufficient bytes recieved');
            }
            $length = yar_header($part)['length'];
            if ($length > 10 << 20) {
                throw transport('response body too large');
            }
            $whole += $length;
        }
        $answer .= $part;
    }
    $kept = $keep ? $socket : null;
    $keep || fclose($socket);
    return substr($answer, 0, $whole);
}

/** What the caller of `Yar_Client` would get. */
function read_answer(string $body, int $id): array
{
    if (strlen($body) < YAR_HEADER) {
        throw protocol('malformed response, 82 bytes expected at least');
    }
    $header = yar_header($body);
    if ($header['magic'] !== YAR_MAGIC) {
        throw protocol("malformed response header '" . substr($body, 0, 32) . "'");
    }
    $name = yar_packager_name(substr($body, YAR_HEADER, 8));
    if (strlen($body) >= YAR_PREFIX && !in_array(strtoupper($name), ['MSGPACK', 'JSON', 'PHP'], true)) {
        throw packager("unsupported packager '$name'");
    }
    $GLOBALS['yar_warnings'] = [];
    try {
        $answer = yar_unpack_payload($name === '' ? 'JSON' : $name, substr($body, YAR_PREFIX));
    } catch (UnexpectedValueException $error) {
        throw packager($error->getMessage());
    }
    $seen = [
        'packager' => strtoupper($name),
        'header_id_matches' => $header['id'] === $id,
        'length_matches' => $header['length'] === strlen($body) - YAR_HEADER,
        'keys' => array_keys($answer),
        'warnings' => $GLOBALS['yar_warnings'],
    ];
    $silent = ['ok' => true, 'value' => null, 'type' => 'null', 'silent_null' => true] + $seen;
    if (!array_key_exists('i', $answer) || !array_key_exists('s', $answer)) {
        return $silent;
    }
    $got = (int) $answer['i'];
    if ($got !== 0 && $got !== $id) {
        throw protocol("response id mismatch, expect $id, got $got");
    }
    $status = (int) $answer['s'];
    $cut = ($status & 0xffffffff) === 0;
    if ($cut) {
        if ($status !== 0) {
            return $silent;
        }
        $value = $answer['r'] ?? null;
        return ['ok' => true, 'value' => $value, 'type' => get_debug_type($value), 'output' => $answer['o'] ?? null,
            'silent_null' => !array_key_exists('r', $answer)] + $seen;
    }
    $error = $answer['e'] ?? null;
    if ($status === 64) {
        if (is_array($error)) {
            $failure = new Failure('Yar_Server_Exception', (string) ($error['message'] ?? ''), $error['code'] ?? 0,
                $error['_type'] ?? 'Yar_Exception_Server');
        } else {
            $failure = new Failure('Yar_Server_Exception', is_string($error) ? $error : 'unknown error, status 64', 64, 'Yar_Exception_Server');
        }
    } else {
        $text = is_string($error) ? $error : "unknown error, status $status";
        $class = match ($status) {
            1 => 'Yar_Client_Packager_Exception',
            2 => 'Yar_Client_Protocol_Exception',
            16 => 'Yar_Client_Transport_Exception',
            default => 'Yar_Client_Exception',
        };
        $failure = new Failure($class, $text, $status);
    }
    // The extension only crashes or says "unknown error" where `e` has another form than the status asks for.
    $sound = $status === 64 ? is_array($error) || is_string($error) : is_string($error);
    return failed($failure) + ['status' => $status, 'sound' => $sound, 'error' => $error] + $seen;
}

/** A value with all its strings and keys in another charset. */
function recode(mixed $value, string $from, string $to): mixed
{
    if (is_string($value)) {
        return iconv($from, $to, $value);
    }
    if (!is_array($value)) {
        return $value;
    }
    $recoded = [];
    foreach ($value as $key => $item) {
        $recoded[recode($key, $from, $to)] = recode($item, $from, $to);
    }
    return $recoded;
}

function failed(Failure $failure): array
{
    return [
        'exception' => $failure->class,
        'message' => $failure->getMessage(),
        'code' => $failure->yarCode,
        'type' => $failure->type,
    ];
}

$call = json_decode(stream_get_contents(STDIN), true, 1024);
$charset = $call['charset'] ?? 'UTF-8';
$call['params'] = recode($call['params'] ?? [], 'UTF-8', $charset);
$curl = curl_init();
for ($n = 0; $n < ($call['times'] ?? 1); $n++) {
    $id = random_int(1, 0xffffffff);
    $packager = strtoupper($call['packager'] ?? 'MSGPACK');
    $request = ['i' => $id, 'm' => $call['method'], 'p' => $call['params']];
    $raw = !str_starts_with($call['url'], 'http');
    $provider = $call['provider'] ?? ($raw ? 'Yar TCP Client' : '');
    $message = yar_message($id, $packager, $request, $provider, $call['token'] ?? '');
    $started = hrtime(true);
    try {
        $result = read_answer($raw ? exchange($call, $message) : post($curl, $call, $message), $id);
    } catch (Failure $failure) {
        $result = failed($failure);
    }
    if ($charset !== 'UTF-8') {
        $result = recode($result, $charset, 'UTF-8');
    }
    $result['ms'] = intdiv(hrtime(true) - $started, 1_000_000);
    $result['connects'] = $raw ? $GLOBALS['connects'] : curl_getinfo($curl, CURLINFO_NUM_CONNECTS);
    echo json_encode($result, JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE, 1024), "\n";
}
