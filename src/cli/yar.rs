//! `remora yar`: looks into Yar messages, makes them, calls Yar servers.

use std::io::{Read, Write};

use clap::Subcommand;
use proto_adapters::yar::{compose, describe};

use super::print;

mod call;

/// Largest input; a message is far smaller, its hex with white space a few times larger.
const MAX_INPUT: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the message on stdin as one JSON object
    Decode {
        /// The input is hexadecimal digits, white space between them ignored
        #[arg(long)]
        hex: bool,
        /// Keep every difference PHP makes, such as 3 and 3.0, in tags like {"$float":"3.0"}
        #[arg(long)]
        typed: bool,
    },
    /// Make a message of a JSON object on stdin, as `decode` shows it with or without --typed
    Encode {
        /// Write hexadecimal digits
        #[arg(long)]
        hex: bool,
    },
    /// Call a function of any Yar server and print its result as JSON
    Call(call::Args),
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Decode { hex, typed } => decode(*hex, *typed),
        Command::Encode { hex } => encode(*hex),
        Command::Call(args) => call::run(args),
    }
}

fn input() -> Result<Vec<u8>, String> {
    let mut input = Vec::new();
    std::io::stdin().take(MAX_INPUT + 1).read_to_end(&mut input).map_err(|e| format!("stdin: {e}"))?;
    if input.len() as u64 > MAX_INPUT {
        return Err("the input is over 64MiB; give one message".into());
    }
    Ok(input)
}

fn encode(hex: bool) -> Result<(), String> {
    let message = compose(&input()?).map_err(|fault| format!("no description of a message: {fault}"))?;
    if hex {
        return print(&format!("{}\n", message.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&message).and_then(|()| stdout.flush()).map_err(|e| format!("stdout: {e}"))
}

fn decode(hex: bool, typed: bool) -> Result<(), String> {
    let input = input()?;
    let message = if hex { unhex(&input)? } else { input };
    let shown = describe(&message, typed).map_err(|fault| {
        let all_hex = !hex && message.iter().all(|b| b.is_ascii_hexdigit() || b.is_ascii_whitespace());
        let hint = if all_hex && !message.is_empty() { " (for hexadecimal digits give --hex)" } else { "" };
        format!("no Yar message: {fault}{hint}")
    })?;
    print(&format!("{shown}\n"))
}

fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for (at, byte) in text.iter().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()) {
        let digit = char::from(*byte).to_digit(16).ok_or_else(|| {
            let shown = byte.escape_ascii();
            format!("--hex: '{shown}' at byte {at} of the input is no hexadecimal digit")
        })?;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push((high << 4 | digit) as u8),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err("--hex: the number of digits is odd; one is missing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_with_spaces_and_bad_hex_is_shown() {
        assert_eq!(unhex(b"80 dF\nec60").unwrap(), [0x80, 0xdf, 0xec, 0x60]);
        assert_eq!(unhex(b" \n"), Ok(vec![]));
        assert_eq!(unhex(b"80 x").unwrap_err(), "--hex: 'x' at byte 3 of the input is no hexadecimal digit");
        assert_eq!(unhex(b"8 0 d").unwrap_err(), "--hex: the number of digits is odd; one is missing");
    }
}
