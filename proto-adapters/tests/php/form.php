<?php
// Reads forms as PHP does. stdin holds forms, each with its length; stdout gets for each the list of
// what `parse_str` makes of it, serialized, in msgpack and as JSON (empty where there is none), each
// with its length. All numbers are 32 bits, big-endian.

$input = stream_get_contents(STDIN);
for ($at = 0; $at < strlen($input); $at += $length) {
    $length = unpack('N', $input, $at)[1];
    $at += 4;
    parse_str(substr($input, $at, $length), $fields);
    $json = (string) json_encode([(object) $fields], JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE
        | JSON_UNESCAPED_LINE_TERMINATORS);
    foreach ([serialize([$fields]), msgpack_pack([$fields]), $json] as $packed) {
        echo pack('N', strlen($packed)), $packed;
    }
}
