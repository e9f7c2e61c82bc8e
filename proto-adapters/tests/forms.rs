//! Forms as PHP reads them, and as it makes them.
//!
//! A failure names its seed: `FORMS_SEED=n cargo test -p proto-adapters --test forms` runs the same
//! forms again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a form that is read otherwise must stop the test")]

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process::{Command, Stdio};

use proto_adapters::{Options, Wire, form_to_params, params_to_query};

#[path = "../../fuzz/bodies/form.rs"]
mod body;
mod dice;

use dice::Random;

const FORMS: usize = 5000;
const WIRES: [Wire; 3] = [Wire::Php, Wire::Msgpack, Wire::Json];

const NAMES: [&str; 15] =
    ["a", "b", " a", "  0", "\ta", "é", "0", "1", "7", "08", "-0", "a-b", "x\"y", "%zz", "]"];
const KEYS: [&str; 22] = [
    "",
    "",
    "",
    " ",
    "\t",
    "\x0b",
    "\n",
    "  ",
    " k",
    "k",
    "0",
    "1",
    "2",
    "7",
    "08",
    "1.5",
    "x y",
    "é",
    "[",
    "a=b&c",
    "+1",
    "9223372036854775808",
];
const VALUES: [&str; 12] = ["", "1", "x y", "é", "你", "a=b", "&", "+", "%", "%4", "\0", "[]"];

fn random() -> Random {
    let seed = env::var("FORMS_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("FORMS_SEED={seed}");
    Random::new(seed)
}

/// Percent-encodes what must be, and now and then what need not.
fn push_encoded(random: &mut Random, out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' ' if random.below(2) == 0 => out.push(b'+'),
            b'&' | b'=' | b'+' | b'%' | b' ' | 0 => write!(out, "%{byte:02X}").unwrap(),
            _ if random.below(4) == 0 => write!(out, "%{byte:02x}").unwrap(),
            _ => out.push(byte),
        }
    }
}

/// A form of names that PHP leaves as they are.
fn form(random: &mut Random) -> Vec<u8> {
    // a first name that is no 0, since PHP would take names 0, 1, … for a list
    let mut form = b"z&".to_vec();
    for _ in 0..random.below(12) {
        let name = random.one_of(&NAMES).as_bytes();
        push_encoded(random, &mut form, name);
        let brackets = [0, 0, 1, 1, 2, 3, 64];
        for _ in 0..random.one_of(&brackets) {
            let key = random.one_of(&KEYS);
            push_encoded(random, &mut form, format!("[{key}]").as_bytes());
        }
        if random.below(10) > 0 {
            form.push(b'=');
            let value = random.one_of(&VALUES).as_bytes();
            // what is no escape stays
            if random.below(4) == 0 && !value.iter().any(|byte| matches!(byte, b'&' | 0)) {
                form.extend_from_slice(value);
            } else {
                push_encoded(random, &mut form, value);
            }
            if random.below(20) == 0 {
                form.extend_from_slice(if random.below(2) == 0 { b"%ff" } else { b"\xff" });
            }
        }
        form.extend_from_slice(if random.below(8) == 0 { b"&&" } else { b"&" });
    }
    form
}

/// What PHP makes of the forms: in each wire the list of one map.
fn as_php_reads(forms: &[Vec<u8>]) -> Vec<[Vec<u8>; 3]> {
    let mut input = Vec::new();
    for form in forms {
        input.extend(u32::try_from(form.len()).unwrap().to_be_bytes());
        input.extend_from_slice(form);
    }
    let mut php = Command::new("php")
        .args(["-d", "max_input_vars=1000", "-d", "max_input_nesting_level=64"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/form.php"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("php: {error}; run tests/setup"));
    let mut stdin = php.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    drop(stdin);
    let done = php.wait_with_output().unwrap();
    let mut rest = done.stdout.as_slice();
    let mut take = || {
        let (length, behind) = rest.split_first_chunk().unwrap_or_else(|| panic!("php broke off"));
        let (packed, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        rest = behind;
        packed.to_vec()
    };
    let read = forms.iter().map(|_| [take(), take(), take()]).collect();
    assert!(done.status.success() && rest.is_empty(), "php: {}", done.status);
    read
}

#[test]
fn a_form_becomes_what_php_makes_of_it() {
    let mut random = random();
    let forms: Vec<_> = (0..FORMS).map(|_| form(&mut random)).collect();
    let mut compared = [0; 3];
    for (form, theirs) in forms.iter().zip(as_php_reads(&forms)) {
        for ((wire, theirs), compared) in WIRES.into_iter().zip(theirs).zip(&mut compared) {
            let ours = form_to_params(form, wire, &[], Options::default());
            let shown = form.escape_ascii();
            if wire == Wire::Json && theirs.is_empty() {
                let fault = ours.unwrap_err().to_string();
                assert!(fault.contains("not UTF-8 cannot become JSON"), "{shown}\n{fault}");
                continue;
            }
            let ours = ours.unwrap_or_else(|fault| panic!("{shown}\n{fault}"));
            assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "{shown}");
            *compared += 1;
        }
    }
    assert!(compared.iter().all(|compared| *compared > FORMS / 2), "{compared:?}");
}

/// A map of texts, lists and maps that PHP tells apart, as JSON without blanks.
fn map(random: &mut Random, depth: u32) -> String {
    let keys = ["k", "8", "10", "08", "é", "x y", "a=b&c+%", "1.5", "-3", "\\\"q"];
    let mut entries = Vec::new();
    for key in keys {
        if random.below(3) == 0 || (key == "k" && depth > 0) {
            entries.push(format!("\"{key}\":{}", value(random, depth + 1)));
        }
    }
    format!("{{{}}}", entries.join(","))
}

fn value(random: &mut Random, depth: u32) -> String {
    match random.below(if depth < 4 { 4 } else { 2 }) {
        0 | 1 => format!("\"{}\"", random.one_of(&["", "1", "x y", "é&=", "100%", "+", "\\u0000", "你"])),
        2 => map(random, depth),
        _ => {
            let items: Vec<_> =
                (0..1 + random.below(12 >> depth)).map(|_| value(random, depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
    }
}

#[test]
fn what_became_a_query_is_read_back_as_it_was() {
    let mut random = random();
    let mut whole = 0;
    for _ in 0..FORMS {
        let params = format!("[{}]", map(&mut random, 0));
        let Ok(query) = params_to_query(Wire::Json, params.as_bytes(), &[]) else { continue };
        if query.matches('&').count() >= 1000 {
            continue;
        }
        let back = form_to_params(query.as_bytes(), Wire::Json, &[], Options::default());
        let back = String::from_utf8(back.unwrap()).unwrap();
        assert_eq!(back, if params == "[{}]" { "[]" } else { &params }, "{query}");
        whole += 1;
    }
    assert!(whole > FORMS / 2, "{whole}");
}

#[test]
fn any_bytes_become_alike_in_every_codec_or_are_refused() {
    let mut random = random();
    let alphabet = b"ab0[][]==&&&+%5B5D\xff\xc3\xa9\x01 .";
    for _ in 0..2 * FORMS {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.one_of(alphabet)).collect();
        body::run(&bytes);
    }
}
