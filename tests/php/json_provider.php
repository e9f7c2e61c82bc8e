<?php
// A provider that speaks JSON over HTTP; router script of `php -S`.

function reply(int $status, mixed $value): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($value, JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$body = file_get_contents('php://input');

if ($path === '/user/get') {
    $asked = json_decode($body, true);
    // By Yar the parameters come as a list or as one map.
    $id = $_GET['id'] ?? $asked['id'] ?? $asked[0] ?? null;
    reply(200, ['id' => $id, 'name' => "user $id", 'pid' => getmypid()]);
} elseif ($path === '/echo') {
    reply(200, [
        'method' => $_SERVER['REQUEST_METHOD'],
        'query' => $_SERVER['QUERY_STRING'] ?? '',
        'headers' => array_change_key_case(getallheaders()),
        'body' => $body,
    ]);
} elseif ($path === '/mirror') {
    // The body as it came, so that values can be compared byte for byte.
    header('Content-Type: application/json');
    echo $body;
} elseif (preg_match('#^/status/(\d{3})$#', $path, $found)) {
    reply((int) $found[1], ['message' => "status $found[1]"]);
} elseif ($path === '/empty') {
    http_response_code(204);
} elseif ($path === '/rubbish') {
    header('Content-Type: application/json');
    echo '{"half":';
} elseif ($path === '/big') {
    header('Content-Type: application/octet-stream');
    $left = (int) ($_GET['n'] ?? 0);
    while ($left > 0) {
        $part = min($left, 65536);
        echo str_repeat('x', $part);
        $left -= $part;
    }
} elseif ($path === '/health') {
    reply(200, ['status' => 'ok']);
} else {
    reply(404, ['message' => "nothing at $path"]);
}
