<?php
// Calls a Yar method without the yar extension: php yar-call.php URL METHOD [PARAM…]
// Packs with msgpack where that extension is there, else with JSON.

[, $url, $method] = $argv + [1 => 'http://127.0.0.1:9501/calc', 2 => 'add'];
$params = array_map(fn ($text) => json_decode($text) ?? $text, array_slice($argv, 3));
$packager = extension_loaded('msgpack') ? 'MSGPACK' : 'JSON';
$pack = $packager === 'MSGPACK' ? 'msgpack_pack' : 'json_encode';
$unpack = $packager === 'MSGPACK' ? 'msgpack_unpack' : fn ($bytes) => json_decode($bytes, true);

$id = random_int(1, 0xFFFFFFFF);
$payload = $pack(['i' => $id, 'm' => $method, 'p' => $params]);
$head = pack('NnNNa32a32Na8', $id, 0, 0x80DFEC60, 0, '', '', 8 + strlen($payload), $packager);
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ['Content-Type: application/octet-stream', 'Connection: close'],
    'content' => $head . $payload,
]]);
$answer = file_get_contents($url, false, $context);
if ($answer === false || strlen($answer) < 90) {
    fwrite(STDERR, "no Yar answer from $url\n");
    exit(1);
}
$answer = $unpack(substr($answer, 90));
if ($answer['s'] !== 0) {
    fwrite(STDERR, json_encode($answer['e'], JSON_UNESCAPED_SLASHES) . "\n");
    exit(1);
}
var_dump($answer['r']);
