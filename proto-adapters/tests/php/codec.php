<?php
// Packs and unpacks values by one codec, named as the argument: json, msgpack or php.
// stdin holds, for each value: the value itself, as `value` reads it; how many byte strings follow;
// each of them with its length. stdout gets, for each value: how PHP packs it, with its length, or
// the length REFUSED; then, for each byte string, 1 if PHP unpacks it to that value, else 0.
// All numbers are 32 bits, big-endian.

const REFUSED = 0xffffffff;

set_error_handler(function (int $_, string $text) {
    throw new ErrorException($text);
});

final class Input
{
    private int $at = 0;

    public function __construct(private string $bytes) {}

    public function left(): bool { return $this->at < strlen($this->bytes); }

    public function take(int $length): string
    {
        $this->at += $length;
        return substr($this->bytes, $this->at - $length, $length);
    }

    public function number(): int { return unpack('N', $this->take(4))[1]; }

    public function value(): mixed
    {
        switch ($this->take(1)) {
            case 'n': return null;
            case 't': return true;
            case 'f': return false;
            case 'i': return unpack('J', $this->take(8))[1];
            case 'd': return unpack('E', $this->take(8))[1];
            case 's': return $this->take($this->number());
            case 'a':
                $array = [];
                for ($left = $this->number(); $left > 0; $left--) {
                    $key = $this->value();
                    $array[$key] = $this->value();
                }
                return $array;
        }
        exit(1);
    }
}

function pack_by(string $codec, mixed $value): string
{
    return match ($codec) {
        'php' => serialize($value),
        'msgpack' => msgpack_pack($value),
        'json' => json_encode($value, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES
            | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_LINE_TERMINATORS),
    };
}

function unpack_by(string $codec, string $bytes): mixed
{
    return match ($codec) {
        'php' => unserialize($bytes, ['allowed_classes' => false]),
        'msgpack' => msgpack_unpack($bytes),
        'json' => json_decode($bytes, true, 512, JSON_THROW_ON_ERROR),
    };
}

/** Tells types, the order of keys and the sign of zero apart; NAN is NAN. */
function same(mixed $a, mixed $b): bool
{
    return serialize($a) === serialize($b);
}

$codec = $argv[1];
$input = new Input(stream_get_contents(STDIN));
while ($input->left()) {
    $value = $input->value();
    try {
        $packed = pack_by($codec, $value);
        $answer = pack('N', strlen($packed)) . $packed;
    } catch (Exception) {
        $answer = pack('N', REFUSED);
    }
    for ($left = $input->number(); $left > 0; $left--) {
        $bytes = $input->take($input->number());
        try {
            $answer .= same(unpack_by($codec, $bytes), $value) ? '1' : '0';
        } catch (Exception) {
            $answer .= '0';
        }
    }
    echo $answer;
}
