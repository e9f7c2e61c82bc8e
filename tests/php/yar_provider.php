<?php
// A Yar server as router script of `php -S`: header, packagers and answers as the extension gives them.

require __DIR__ . '/yar_message.php';

class BizException extends Exception
{
}

/** Text as a program has it whose files are in GBK. */
function gbk(string $text): string { return iconv('UTF-8', 'GBK', $text); }

final class Functions
{
    public function add(int $a, int $b): int { return $a + $b; }
    public function echo(mixed ...$args): array { return $args; }
    public function echoArg(mixed $arg): mixed { return $arg; }
    public function count(mixed ...$args): int { return count($args); }
    public function throw(string $message = 'out of stock', int $code = 1234): void
    {
        throw new BizException($message, $code);
    }
    public function typeError(): int { return $this->add('x', 2); }
    public function text(): string
    {
        echo 'printed';
        return 'returned';
    }
    public function nothing(): void {}
    public function float(): float { return 3.0; }
    public function intMin(): int { return PHP_INT_MIN; }
    public function intMax(): int { return PHP_INT_MAX; }
    public function binary(): array { return ['user' => ['photo' => "\xff\xfe\x00 not text"]]; }
    public function emptyArray(): array { return []; }
    public function emptyMap(): stdClass { return new stdClass(); }
    public function nested(): array { return ['list' => [1, [2, [3]]], 'map' => ['a' => ['b' => null]], 'yes' => true]; }
    public function pid(): int { return getmypid(); }
    public function who(): array { return [$GLOBALS['header']['provider'], $GLOBALS['header']['token']]; }
    public function headers(): array { return getallheaders(); }
    public function die(): void { send(['i' => $GLOBALS['id'], 's' => 0, 'o' => '']); exit; }
    public function sleep(int $ms): string { usleep($ms * 1000); return 'slept'; }
    public function html(): void { ob_end_clean(); echo '<html><body>Fatal error</body></html>'; exit; }
    public function noStatus(): void { send(['i' => $GLOBALS['id'], 'r' => 'lost']); exit; }
    public function hex(string $text): string { return bin2hex($text); }
    public function gbkGreet(string $name): array
    {
        return [gbk('姓名') => $name, gbk('问候') => [gbk('你好，') . $name, 3.0], 'hex' => bin2hex($name)];
    }
    public function gbkThrow(): void
    {
        class_exists(gbk('缺货异常')) || eval('class ' . gbk('缺货异常') . ' extends Exception {}');
        throw new (gbk('缺货异常'))(gbk('库存不足'), 77);
    }
    public function gbkText(): string
    {
        echo gbk('打印');
        return gbk('返回');
    }
    public function half(): void
    {
        $message = yar_message($GLOBALS['header']['id'], $GLOBALS['packager'], ['i' => $GLOBALS['id'], 's' => 0, 'r' => str_repeat('a', 100)], 'PHP Yar Server');
        ob_end_clean();
        header('Content-Type: application/octet-stream');
        echo substr($message, 0, -50);
        exit;
    }
}

function send(array $answer): void
{
    while (ob_get_level() > 0) {
        ob_end_clean();
    }
    $message = yar_message($GLOBALS['header']['id'] ?? 0, $GLOBALS['packager'] ?? 'MSGPACK', $answer, 'PHP Yar Server');
    header('Content-Type: application/octet-stream');
    header('Cache-Control: no-cache');
    header('Content-Length: ' . strlen($message));
    echo $message;
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Content-Type: text/html');
    echo '<html><body><h1>Yar Server: Functions</h1></body></html>';
    return;
}

$body = file_get_contents('php://input');
if ($body === '' || ($_SERVER['CONTENT_TYPE'] ?? '') === '') {
    // The built-in server hands a request without a Content-Type to Yar as empty.
    send(['i' => 0, 's' => 1, 'e' => 'empty request']);
    return;
}
if (strlen($body) < YAR_HEADER || yar_header($body)['magic'] !== YAR_MAGIC) {
    send(['i' => 0, 's' => 2, 'e' => 'malformed request header']);
    return;
}
$header = yar_header($body);
$name = yar_packager_name(substr($body, YAR_HEADER, 8));
if (!in_array(strtoupper($name), ['MSGPACK', 'JSON', 'PHP'], true)) {
    send(['i' => 0, 's' => 1, 'e' => "unsupported packager '$name'"]);
    return;
}
$packager = strtoupper($name);
try {
    $request = yar_unpack_payload($packager, substr($body, YAR_PREFIX));
} catch (UnexpectedValueException $error) {
    send(['i' => 0, 's' => 1, 'e' => $error->getMessage()]);
    return;
}
$id = $request['i'] ?? 0;
if (!isset($request['m']) || !is_string($request['m'])) {
    send(['i' => $id, 's' => 4, 'e' => 'malformed request body, no method']);
    return;
}
if (!array_key_exists('p', $request) || !is_array($request['p'])) {
    // The extension dies by SIGSEGV here, and the web server sees no answer at all.
    posix_kill(getmypid(), SIGKILL);
}
$functions = new Functions();
$method = $request['m'];
if (!method_exists($functions, $method)) {
    send(['i' => $id, 's' => 4, 'e' => "call to undefined api Functions::$method()"]);
    return;
}
ob_start();
try {
    // Values in their order; names don't count.
    $result = $functions->$method(...array_values($request['p']));
    $output = ob_get_clean();
    $answer = ['i' => $id, 's' => 0];
    if ($output !== '' && $output !== false) {
        $answer['o'] = $output;
    }
    $answer['r'] = $result;
} catch (Throwable $error) {
    $answer = ['i' => $id, 's' => 64, 'e' => [
        'message' => $error->getMessage(),
        'code' => $error->getCode(),
        'file' => $error->getFile(),
        'line' => $error->getLine(),
        '_type' => $error::class,
    ]];
}
send($answer);
