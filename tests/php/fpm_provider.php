<?php
// A provider under php-fpm; /hold waits until its test lets it go.

if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/hold') {
    flock(fopen($_SERVER['GATE'], 'r'), LOCK_SH);
}
header('Content-Type: application/json');
echo json_encode(['pid' => getmypid()]);
