//! The tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::contender::{Contender, Kind};
use super::load::{BY_FIGURE, Load, PASSED_ON, Slice};

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
    for contender in contenders.iter().filter(|contender| contender.kind != Kind::Direct) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let kind = contender.kind;
        let (idle, now) = (mib(idle[&kind]), mib(contender.memory()));
        writeln!(text, "| {} | {} | {idle:.1} MiB | {now:.1} MiB |", kind.name(), kind.version()).unwrap();
    }
    for (index, load) in loads.iter().enumerate() {
        writeln!(text, "\n## {}\n", load.name).unwrap();
        text.push_str("| | CPU µs/call | remora ÷ it (least–most) | calls/s | p50 µs | p99 | p999 | p99 added | failed |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        let of = |kind| slices.get(&(index, kind));
        let direct = of(Kind::Direct).map(|slices| percentile(slices, 0.99));
        let remora = of(Kind::Remora).unwrap();
        for kind in contenders.iter().map(|contender| contender.kind) {
            if let Some(own) = of(kind) {
                row(&mut text, kind, own, remora, direct);
            }
        }
        let passed_on = loads.iter().position(|load| load.name == PASSED_ON).filter(|_| load.is_adapted);
        if let Some(passed_on) = passed_on.and_then(|index| slices.get(&(index, Kind::Remora))) {
            let (ratios, cpu) = (ratios(remora, passed_on), median(passed_on.iter().map(|slice| slice.cpu)));
            let (least, most) = (ratios.first().unwrap(), ratios.last().unwrap());
            let ratio = median(ratios.iter().copied());
            writeln!(
                text,
                "| remora, passed on | {cpu:.1} | {ratio:.2} ({least:.2}–{most:.2}) | | | | | | |"
            )
            .unwrap();
        }
        if let (Some(by_figure), Some(haproxy)) = (load.by_figure, of(Kind::Haproxy)) {
            for (name, factor) in BY_FIGURE.iter().zip(by_figure) {
                let ratio = median(ratios(remora, haproxy).into_iter()) / factor;
                writeln!(text, "| {name}, by figure ¹ | HAProxy × {factor:.2} | {ratio:.2} | | | | | | |")
                    .unwrap();
            }
        }
    }
    text.push_str("\n¹ by figure: another machine, plain proxying; their CPU per call ÷ HAProxy's there.\n");
    text.push_str("\n## How each was set up\n");
    for contender in contenders.iter().filter(|contender| contender.kind != Kind::Direct) {
        writeln!(text, "\n{}:\n\n```\n{}```", contender.kind.name(), contender.config).unwrap();
    }
    text
}

fn row(text: &mut String, kind: Kind, own: &[Slice], remora: &[Slice], direct: Option<Duration>) {
    let ratios = ratios(remora, own);
    let (least, most) = (ratios.first().unwrap(), ratios.last().unwrap());
    let at = |share: f64| percentile(own, share).as_micros();
    let cpu = match kind {
        Kind::Direct => "– | –".to_owned(),
        Kind::Remora | Kind::Nginx | Kind::Haproxy | Kind::Envoy => format!(
            "{:.1} | {:.2} ({least:.2}–{most:.2})",
            median(own.iter().map(|slice| slice.cpu)),
            median(ratios.iter().copied())
        ),
    };
    let added = direct.map_or("–".to_owned(), |direct| {
        format!("{:+}", percentile(own, 0.99).as_micros() as i128 - direct.as_micros() as i128)
    });
    let failed: usize = own.iter().map(|slice| slice.failed).sum();
    writeln!(
        text,
        "| {} | {cpu} | {:.0} | {} | {} | {} | {added} | {failed} |",
        kind.name(),
        median(own.iter().map(|slice| slice.per_second)),
        at(0.5),
        at(0.99),
        at(0.999),
    )
    .unwrap();
}

/// Of CPU per call, round by round, in order of size.
fn ratios(remora: &[Slice], own: &[Slice]) -> Vec<f64> {
    let mut ratios: Vec<_> = remora.iter().zip(own).map(|(remora, own)| remora.cpu / own.cpu).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

/// In each round so many took no longer; the median of the rounds.
pub(crate) fn percentile(slices: &[Slice], share: f64) -> Duration {
    let of_round = |slice: &Slice| {
        let mut took = slice.took.clone();
        took.sort_unstable();
        took.get((took.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
    };
    let mut rounds: Vec<_> = slices.iter().map(of_round).collect();
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
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
    // what else ran just now moves all times, and ratios of CPU least
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    writeln!(
        text,
        "{model}, {cores} cores, Linux {}, load average {load} at the end; one worker each, contenders on the first core, \
         callers and providers on the second. Remora has a key, a quota, two providers and metrics; the others pass calls on \
         to the same two. \"p99 added\" is p99 less that without a proxy; percentiles are medians over the rounds.",
        kernel.trim()
    )
    .unwrap();
}
