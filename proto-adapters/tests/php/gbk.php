<?php
// What PHP's iconv makes of each GBK code of two bytes: a line for each, the code in hexadecimal digits
// and its UTF-8, as far as there is one that goes back to the same code.

for ($code = 0x8140; $code <= 0xfefe; $code++) {
    $bytes = pack('n', $code);
    $text = @iconv('GBK', 'UTF-8', $bytes);
    if ($text !== false && $text !== '' && @iconv('UTF-8', 'GBK', $text) === $bytes) {
        echo bin2hex($bytes), ' ', $text, "\n";
    }
}
