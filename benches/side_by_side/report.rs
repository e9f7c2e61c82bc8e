//! The tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::contender::{Contender, Kind};
use super::load::{Load, Slice};

/// Everything that was measured, as Markdown.
pub(crate) fn write(
    loads: &[Load],
    contenders: &[Contender],
    idle: &BTreeMap<Kind, u64>,
    slices: &BTreeMap<(usize, Kind), Vec<Slice>>,
) -> String {
    let mut text = String::from("# Side by side\n\n");
    machine(&mut text);
    text.push_str("\n| program | version | idle, PSS | after the loads |\n|---|---|---|---|\n");
    for contender in contenders {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let kind = contender.kind;
        let (idle, now) = (mib(idle[&kind]), mib(contender.memory()));
        writeln!(text, "| {} | {} | {idle:.1} MiB | {now:.1} MiB |", kind.name(), kind.version()).unwrap();
    }
    for (index, load) in loads.iter().enumerate() {
        writeln!(text, "\n## {}\n", load.name).unwrap();
        text.push_str(
            "| | CPU µs/call | remora ÷ it (least–most) | calls/s | p50 µs | p90 | p99 | p999 | failed |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        let remora = &slices[&(index, Kind::Remora)];
        for contender in contenders {
            row(&mut text, contender.kind, &slices[&(index, contender.kind)], remora);
        }
    }
    text.push_str("\n## How each was set up\n");
    for contender in contenders {
        writeln!(text, "\n{}:\n\n```\n{}```", contender.kind.name(), contender.config).unwrap();
    }
    text
}

fn row(text: &mut String, kind: Kind, own: &[Slice], remora: &[Slice]) {
    let mut ratios: Vec<_> = remora.iter().zip(own).map(|(remora, own)| remora.cpu / own.cpu).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios.first().unwrap(), ratios.last().unwrap());
    let mut took: Vec<Duration> = own.iter().flat_map(|slice| slice.took.iter().copied()).collect();
    took.sort_unstable();
    let at = |share: f64| {
        took.get((took.len().saturating_sub(1) as f64 * share) as usize).map_or(0, |t| t.as_micros())
    };
    let failed: usize = own.iter().map(|slice| slice.failed).sum();
    writeln!(
        text,
        "| {} | {:.1} | {:.2} ({least:.2}–{most:.2}) | {:.0} | {} | {} | {} | {} | {failed} |",
        kind.name(),
        median(own.iter().map(|slice| slice.cpu)),
        median(ratios.iter().copied()),
        median(own.iter().map(|slice| slice.per_second)),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
    )
    .unwrap();
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn machine(text: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_matches([' ', '\t', ':']);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    writeln!(
        text,
        "{model}, {cores} cores, Linux {}; one worker each, contenders on the first core, \
         callers and provider on the second.",
        kernel.trim()
    )
    .unwrap();
}
