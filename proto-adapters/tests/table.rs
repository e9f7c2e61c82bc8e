//! Every cell of `docs/values.md`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a table that is not true must stop the test")]

use proto_adapters::{
    BytesAs, Charset, Empty, Fault, Options, Wire, form_to_params, params_to_query, transcode,
};

const TABLES: &str = include_str!("../../docs/values.md");

/// The cells of each line of each table, without the line below the head.
fn tables() -> Vec<Vec<Vec<&'static str>>> {
    let mut tables = vec![Vec::new()];
    for line in TABLES.lines() {
        match line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
            Some(cells) if cells.starts_with("---") => {}
            Some(cells) => tables.last_mut().unwrap().push(cells.split('|').map(str::trim).collect()),
            None => tables.push(Vec::new()),
        }
    }
    tables.retain(|table| !table.is_empty());
    tables
}

/// `None` for a form, and for remarks.
fn wire(head: &str) -> Option<Wire> {
    match head {
        "JSON" => Some(Wire::Json),
        "msgpack" => Some(Wire::Msgpack),
        "PHP" => Some(Wire::Php),
        _ => None,
    }
}

fn options(policy: Option<&str>) -> Options {
    let mut options = Options::default();
    for part in policy.iter().flat_map(|policy| policy.split(", ")) {
        match part {
            "`empty: map`" => options.empty = Empty::Map,
            "`bytes: base64`" => options.bytes = BytesAs::Base64,
            "toward `charset: gbk`" => options.to = Charset::Gbk,
            "from `charset: gbk`" => options.from = Charset::Gbk,
            other => panic!("no such policy: {other}"),
        }
    }
    options
}

/// The bytes that a cell shows.
fn bytes(wire: Wire, cell: &str) -> Vec<u8> {
    let shown = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    let shown = shown.unwrap_or_else(|| panic!("neither bytes nor a refusal: {cell}"));
    let hex = |digits: &str| u8::from_str_radix(digits, 16).unwrap();
    match wire {
        Wire::Json => shown.as_bytes().to_vec(),
        Wire::Msgpack => (0..shown.len()).step_by(2).map(|at| hex(&shown[at..at + 2])).collect(),
        Wire::Php => {
            let mut pieces = shown.split("\\x");
            let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
            for piece in pieces {
                bytes.push(hex(&piece[..2]));
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            bytes
        }
    }
}

#[test]
fn every_cell_says_what_becomes_of_the_value() {
    let mut seen = 0;
    for table in tables() {
        let (head, lines) = table.split_first().unwrap();
        if head.iter().all(|head| wire(head).is_none()) {
            continue;
        }
        let policed = usize::from(head.first() == Some(&"policy"));
        let from = wire(head[policed]);
        for line in lines {
            let value = bytes(from.unwrap_or(Wire::Json), line[policed]);
            let options = options((policed == 1).then(|| line[0]));
            for (to, cell) in head.iter().zip(line).skip(policed + 1) {
                let Some(to) = wire(to) else { continue };
                let (became, place) = match from {
                    Some(from) => (transcode(from, to, &value, "$", options), "$"),
                    None => (form_to_params(&value, to, &[], options), "$.a"),
                };
                match cell.strip_prefix("refused: ") {
                    Some(reason) => {
                        let refusal =
                            Fault::Unadaptable { path: place.to_owned(), reason: reason.to_owned() };
                        assert_eq!(became, Err(refusal), "{line:?}");
                    }
                    None => assert_eq!(became, Ok(bytes(to, cell)), "{line:?}"),
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 178);
}

#[test]
fn every_argument_becomes_its_query() {
    let table = tables().into_iter().find(|table| table[0][1] == "query").unwrap();
    assert_eq!(table.len(), 15);
    for line in &table[1..] {
        let (value, query) = (line[0].trim_matches('`'), line[1].trim_matches('`'));
        // not alone, where a map would bring its own names
        let params = format!("[null,{value}]");
        let became = params_to_query(Wire::Json, params.as_bytes(), &["z".to_owned(), "a".to_owned()]);
        assert_eq!(became.as_deref(), Ok(query), "{line:?}");
    }
}

#[test]
fn every_wire_leads_to_every_other() {
    let mut ways: Vec<_> = tables().into_iter().map(|table| table[0].join(" ").trim().to_owned()).collect();
    ways.truncate(3);
    assert_eq!(ways, ["JSON msgpack PHP", "msgpack JSON PHP", "PHP JSON msgpack"]);
}
