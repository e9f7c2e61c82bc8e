<?php
// The 82-byte header and the packagers, shared by the provider and the client beside it.

const YAR_MAGIC = 0x80DFEC60;
const YAR_HEADER = 82;
const YAR_PREFIX = 90;

/** The name up to the first NUL of the first 7 bytes; the eighth byte does not count. */
function yar_packager_name(string $field): string
{
    return explode("\0", substr($field, 0, 7), 2)[0];
}

function yar_pack_payload(string $packager, mixed $value): string
{
    return match (strtoupper($packager)) {
        'MSGPACK' => msgpack_pack($value),
        'PHP' => serialize($value),
        'JSON' => (string) json_encode($value, JSON_PARTIAL_OUTPUT_ON_ERROR),
    };
}

function yar_message(int $id, string $packager, mixed $payload, string $provider = '', string $token = ''): string
{
    $body = yar_pack_payload($packager, $payload);
    return pack('NnNNa32a32N', $id, 0, YAR_MAGIC, 0, $provider, $token, 8 + strlen($body))
        . pack('a8', strtoupper($packager)) . $body;
}

/** @return array{id:int,version:int,magic:int,reserved:int,provider:string,token:string,length:int} */
function yar_header(string $message): array
{
    return unpack('Nid/nversion/Nmagic/Nreserved/Z32provider/Z32token/Nlength', $message);
}

/**
 * The value of a payload.
 * @throws UnexpectedValueException with the message the extension gives
 */
function yar_unpack_payload(string $packager, string $payload): mixed
{
    switch (strtoupper($packager)) {
        case 'JSON':
            $value = json_decode($payload, true, 512);
            if (!is_array($value)) {
                throw new UnexpectedValueException('json unpack error');
            }
            return $value;
        case 'MSGPACK':
            $warnings = [];
            set_error_handler(function (int $_, string $text) use (&$warnings) {
                $warnings[] = $text;
                return true;
            });
            try {
                $value = msgpack_unpack($payload);
            } finally {
                restore_error_handler();
            }
            $GLOBALS['yar_warnings'] = $warnings;
            if (!is_array($value)) {
                throw new UnexpectedValueException('msgpack unpack error');
            }
            return $value;
        case 'PHP':
            if ($payload === '') {
                throw new UnexpectedValueException('an empty PHP payload crashes the extension');
            }
            $value = @unserialize($payload, ['allowed_classes' => false]);
            if (!is_array($value)) {
                throw new UnexpectedValueException('unpack error at offset 0 of ' . strlen($payload) . ' bytes');
            }
            return $value;
    }
    throw new UnexpectedValueException("unsupported packager '$packager'");
}
