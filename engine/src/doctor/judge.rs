//! What the facts about a machine mean for the engine, and what to do about them.
//!
//! Pure: the machine is not looked at here.

use super::facts::{DirectoryFacts, Facts, Limit};
use super::{Finding, LOCKED_MEMORY_PER_EXECUTOR, LOCKED_MEMORY_PER_LOG, Report, Verdict, shard_count};
use crate::config::AutoOr;
use crate::units::{format_size, format_size_rounded};

/// Oldest kernel on which the engine is known to work: before it, large reads through io_uring can hang.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Open files below which runs with many inputs get short.
const OPEN_FILES_MIN: u64 = 1024;

/// Free bytes below which a data directory is nearly full: a few segments per shard.
const FREE_SPACE_MIN: u64 = 2 << 30;

/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "riscv_clocksource"];

/// Judges every fact. `shards` is the number of shards that memory and cores must suffice for.
pub fn judge(facts: &Facts, shards: AutoOr) -> Report {
    let count = shard_count(shards, facts.cores.len());
    let mut findings = vec![
        kernel(facts.kernel.as_deref()),
        io_uring(facts),
        locked_memory(facts, count),
        cores(facts, count),
        governor(&facts.governors),
        huge_pages(facts.huge_pages.as_deref()),
        open_files(facts.open_files),
        clock(facts.clock_source.as_deref()),
    ];
    if let Some(directory) = &facts.directory {
        findings.extend([file_system(directory), directory_access(directory), free_space(directory)]);
    }
    Report { findings }
}

fn finding(topic: &'static str, verdict: Verdict, found: impl Into<String>, advice: &str) -> Finding {
    Finding { topic, verdict, found: found.into(), advice: (!advice.is_empty()).then(|| advice.to_owned()) }
}

fn unknown(topic: &'static str) -> Finding {
    finding(topic, Verdict::Warn, "cannot be read here", "is /proc or /sys hidden from this process?")
}

fn kernel(release: Option<&str>) -> Finding {
    let Some(release) = release else { return unknown("kernel") };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return finding("kernel", Verdict::Warn, release, "the version is not understood; 6.1 or later is needed");
    };
    if (major, minor) >= KERNEL_MIN {
        return finding("kernel", Verdict::Ok, release, "");
    }
    let advice = "large reads through io_uring can hang before 6.1; install kernel 6.1 or later (Debian 12 has it)";
    finding("kernel", Verdict::Fail, release, advice)
}

fn io_uring(facts: &Facts) -> Finding {
    let topic = "io_uring";
    match (&facts.ring, facts.io_uring_disabled) {
        (Ok(missing), _) if missing.is_empty() => finding(topic, Verdict::Ok, "a ring was set up", ""),
        (Ok(missing), _) => {
            let found = format!("the kernel lacks {}", missing.join(", "));
            finding(topic, Verdict::Fail, found, "install kernel 6.1 or later")
        }
        (Err(error), Some(level @ (1 | 2))) => {
            let found = format!("forbidden by kernel.io_uring_disabled = {level} ({error})");
            finding(topic, Verdict::Fail, found, "as root: sysctl kernel.io_uring_disabled=0")
        }
        (Err(error), _) => {
            let advice = "a container runtime may forbid it: allow io_uring_setup, io_uring_enter and \
                          io_uring_register in its seccomp profile; or the locked memory limit is used up";
            finding(topic, Verdict::Fail, format!("no ring can be set up: {error}"), advice)
        }
    }
}

/// Every executor needs its part; log blocks that cannot be registered only cost speed.
fn locked_memory(facts: &Facts, shards: u32) -> Finding {
    let topic = "locked memory";
    let needed = LOCKED_MEMORY_PER_EXECUTOR * (u64::from(shards) + 1);
    let wanted = needed + LOCKED_MEMORY_PER_LOG * u64::from(shards);
    let need = format!("{} needed for {} and the coordinator", format_size(needed), count_of_shards(shards));
    if facts.locks_freely {
        return finding(topic, Verdict::Ok, format!("no limit for this process (CAP_IPC_LOCK); {need}"), "");
    }
    let Some(limit) = facts.locked_memory else { return unknown(topic) };
    let Some(soft) = limit.soft else {
        return finding(topic, Verdict::Ok, format!("no limit; {need}"), "");
    };
    let found = format!("limit {}; {need}", format_size(soft));
    let raise = format!("raise it to {} or more: `ulimit -l {}`, or LimitMEMLOCK=", format_size(wanted), wanted >> 10);
    if soft < needed {
        let fits = (soft / LOCKED_MEMORY_PER_EXECUTOR).saturating_sub(1);
        let fewer = if fits > 0 { format!("; or run with --shards {fits}") } else { String::new() };
        let advice = format!("{raise} in the systemd unit{fewer}");
        return finding(topic, Verdict::Fail, found, &advice);
    }
    if soft < wanted {
        let advice = format!("{raise} in the systemd unit, so that log blocks can be registered (faster writes)");
        return finding(topic, Verdict::Warn, found, &advice);
    }
    finding(topic, Verdict::Ok, found, "")
}

fn count_of_shards(count: u32) -> String {
    if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") }
}

fn cores(facts: &Facts, shards: u32) -> Finding {
    let topic = "cores";
    let count = facts.cores.len();
    if count == 0 {
        return unknown(topic);
    }
    let mut physical: Vec<&Vec<u32>> = facts.siblings.iter().collect();
    physical.sort();
    physical.dedup();
    let found = match physical.len() {
        0 => format!("{count} allowed"),
        physical if physical < count => format!("{count} allowed, on {physical} physical cores"),
        _ => format!("{count} allowed, one thread per physical core"),
    };
    if let Some(quota) = facts.cpu_quota.filter(|quota| *quota < count as f64) {
        let found = format!("{found}; a control group allows only {quota:.1} cores' time");
        let advice = "pinned cores will be stopped now and then; raise the quota, or use fewer --shards";
        return finding(topic, Verdict::Warn, found, advice);
    }
    if u64::from(shards) + 1 > count as u64 {
        let found = format!("{found}, for {} and the coordinator", count_of_shards(shards));
        return finding(topic, Verdict::Warn, found, "some will share a core: correct, but slower");
    }
    if physical.len() < count {
        let advice = "two shards on threads of one physical core share its speed; allow one thread of each, for \
                      instance with taskset, if latency matters";
        return finding(topic, Verdict::Ok, found, advice);
    }
    finding(topic, Verdict::Ok, found, "")
}

fn governor(governors: &[String]) -> Finding {
    let topic = "cpu governor";
    if governors.is_empty() {
        return finding(topic, Verdict::Ok, "not exposed (usual in virtual machines)", "");
    }
    if governors.iter().all(|name| name == "performance") {
        return finding(topic, Verdict::Ok, "performance", "");
    }
    let advice = "for even speed, as root: cpupower frequency-set -g performance";
    finding(topic, Verdict::Warn, governors.join(", "), advice)
}

fn huge_pages(setting: Option<&str>) -> Finding {
    let topic = "huge pages";
    match setting {
        None => finding(topic, Verdict::Ok, "transparent huge pages are not available", ""),
        Some("always") => {
            let advice = "compaction can stall a core; as root: \
                          echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
            finding(topic, Verdict::Warn, "transparent huge pages: always", advice)
        }
        Some(setting) => finding(topic, Verdict::Ok, format!("transparent huge pages: {setting}"), ""),
    }
}

fn open_files(limit: Option<Limit>) -> Finding {
    let topic = "open files";
    let Some(limit) = limit else { return unknown(topic) };
    match limit.soft {
        Some(soft) if soft < OPEN_FILES_MIN => {
            let advice = "every input file is held open; raise it with `ulimit -n 65536`, or LimitNOFILE= in systemd";
            finding(topic, Verdict::Warn, format!("limit {soft}"), advice)
        }
        Some(soft) => finding(topic, Verdict::Ok, format!("limit {soft}"), ""),
        None => finding(topic, Verdict::Ok, "no limit", ""),
    }
}

fn clock(source: Option<&str>) -> Finding {
    let topic = "clock source";
    match source {
        None => unknown(topic),
        Some(source) if FAST_CLOCKS.contains(&source) => finding(topic, Verdict::Ok, source, ""),
        Some(source) => {
            let advice = "reading it costs a system call; look in the kernel log why `tsc` was not chosen";
            finding(topic, Verdict::Warn, source, advice)
        }
    }
}

fn file_system(directory: &DirectoryFacts) -> Finding {
    let topic = "file system";
    let path = directory.path.display();
    let Some(kind) = &directory.kind else { return unknown(topic) };
    let why = match kind.as_str() {
        "ext4" | "xfs" => return finding(topic, Verdict::Ok, format!("{kind} ({path})"), ""),
        "tmpfs" | "ramfs" => "it lives in memory and is lost with the power",
        "overlay" => "it does not say which file a sync reaches",
        "btrfs" => "it copies on write, so overwriting a log in place is neither cheap nor safe",
        _ => {
            let advice = "it is neither known to keep what was synced nor known not to; ext4 and xfs are";
            return finding(topic, Verdict::Warn, format!("{kind} ({path})"), advice);
        }
    };
    let advice =
        format!("refused for durability \"sync\": {why}; use a directory on ext4 or xfs, or durability \"os\"");
    finding(topic, Verdict::Fail, format!("{kind} ({path})"), &advice)
}

fn directory_access(directory: &DirectoryFacts) -> Finding {
    let topic = "data directory";
    match (&directory.write, &directory.direct) {
        (Err(error), _) => {
            let advice =
                "give the directory (or, if it does not exist yet, the one above it) to the user who runs this";
            finding(topic, Verdict::Fail, format!("cannot be written: {error}"), advice)
        }
        (Ok(()), Err(error)) => {
            let advice = "the log writes past the page cache (O_DIRECT); use a directory on ext4 or xfs";
            finding(topic, Verdict::Fail, format!("direct I/O is refused: {error}"), advice)
        }
        (Ok(()), Ok(())) => finding(topic, Verdict::Ok, "can be written, also with direct I/O", ""),
    }
}

fn free_space(directory: &DirectoryFacts) -> Finding {
    let topic = "free space";
    match directory.free {
        None => unknown(topic),
        Some(free) if free < FREE_SPACE_MIN => {
            let advice = "a full disk pauses the input until there is room again; free some space, or use another disk";
            finding(topic, Verdict::Warn, format_size_rounded(free), advice)
        }
        Some(free) => finding(topic, Verdict::Ok, format_size_rounded(free), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            kernel: Some("6.1.0-18-amd64".into()),
            io_uring_disabled: Some(0),
            ring: Ok(Vec::new()),
            locked_memory: Some(Limit { soft: Some(64 << 20), hard: Some(64 << 20) }),
            locks_freely: false,
            open_files: Some(Limit { soft: Some(1024), hard: None }),
            cores: vec![0, 1, 2, 3],
            siblings: vec![vec![0], vec![1], vec![2], vec![3]],
            cpu_quota: None,
            governors: vec!["performance".into()],
            huge_pages: Some("madvise".into()),
            clock_source: Some("tsc".into()),
            directory: Some(DirectoryFacts {
                path: "/data".into(),
                kind: Some("ext4".into()),
                free: Some(100 << 30),
                write: Ok(()),
                direct: Ok(()),
            }),
        }
    }

    /// A change to the good machine, the topic it concerns, its verdict, and a part of the text.
    type Row = (fn(&mut Facts), &'static str, Verdict, &'static str);

    #[test]
    fn every_fact_has_its_verdict() {
        fn directory(facts: &mut Facts) -> &mut DirectoryFacts {
            facts.directory.as_mut().expect("given")
        }
        let table: [Row; 27] = [
            (|_| (), "kernel", Verdict::Ok, "6.1.0"),
            (|f| f.kernel = Some("6.0.9".into()), "kernel", Verdict::Fail, "6.1 or later"),
            (|f| f.kernel = Some("10.0".into()), "kernel", Verdict::Ok, "10.0"),
            (|f| f.kernel = Some("odd".into()), "kernel", Verdict::Warn, "not understood"),
            (|f| f.kernel = None, "kernel", Verdict::Warn, "cannot be read"),
            (|f| f.ring = Ok(vec!["SEND"]), "io_uring", Verdict::Fail, "lacks SEND"),
            (|f| f.ring = Err("EPERM".into()), "io_uring", Verdict::Fail, "seccomp"),
            (
                |f| (f.ring, f.io_uring_disabled) = (Err("EPERM".into()), Some(2)),
                "io_uring",
                Verdict::Fail,
                "sysctl kernel.io_uring_disabled=0",
            ),
            (
                |f| f.locked_memory = Some(Limit { soft: Some(2 << 20), hard: None }),
                "locked memory",
                Verdict::Warn,
                "9728",
            ),
            (
                |f| f.locked_memory = Some(Limit { soft: Some(1 << 20), hard: None }),
                "locked memory",
                Verdict::Fail,
                "--shards 1",
            ),
            (|f| f.locked_memory = Some(Limit { soft: Some(0), hard: None }), "locked memory", Verdict::Fail, "ulimit"),
            (|f| f.locked_memory = Some(Limit { soft: None, hard: None }), "locked memory", Verdict::Ok, "no limit"),
            (
                |f| (f.locked_memory, f.locks_freely) = (Some(Limit { soft: Some(0), hard: None }), true),
                "locked memory",
                Verdict::Ok,
                "CAP_IPC_LOCK",
            ),
            (|f| f.cores.clear(), "cores", Verdict::Warn, "cannot be read"),
            (|f| f.cores = vec![0], "cores", Verdict::Warn, "share a core"),
            (|f| f.cpu_quota = Some(1.5), "cores", Verdict::Warn, "1.5 cores"),
            (|f| f.siblings = vec![vec![0, 1], vec![0, 1], vec![2, 3], vec![2, 3]], "cores", Verdict::Ok, "2 physical"),
            (|f| f.governors = vec!["powersave".into()], "cpu governor", Verdict::Warn, "cpupower"),
            (|f| f.governors.clear(), "cpu governor", Verdict::Ok, "not exposed"),
            (|f| f.huge_pages = Some("always".into()), "huge pages", Verdict::Warn, "madvise"),
            (|f| f.open_files = Some(Limit { soft: Some(256), hard: None }), "open files", Verdict::Warn, "ulimit -n"),
            (|f| f.clock_source = Some("hpet".into()), "clock source", Verdict::Warn, "system call"),
            (|f| directory(f).kind = Some("tmpfs".into()), "file system", Verdict::Fail, "lives in memory"),
            (|f| directory(f).kind = Some("zfs".into()), "file system", Verdict::Warn, "neither known"),
            (|f| directory(f).write = Err("EACCES".into()), "data directory", Verdict::Fail, "EACCES"),
            (|f| directory(f).direct = Err("EINVAL".into()), "data directory", Verdict::Fail, "O_DIRECT"),
            (|f| directory(f).free = Some(1), "free space", Verdict::Warn, "1 B"),
        ];
        for (change, topic, verdict, part) in table {
            let mut facts = good();
            change(&mut facts);
            let report = judge(&facts, AutoOr::Auto);
            let finding = report.findings.iter().find(|finding| finding.topic == topic).expect(topic);
            let text = format!("{} {}", finding.found, finding.advice.as_deref().unwrap_or(""));
            assert_eq!(finding.verdict, verdict, "{topic}: {text}");
            assert!(text.contains(part), "{topic}: {text}");
        }
    }

    #[test]
    fn a_good_machine_has_nothing_to_say() {
        let report = judge(&good(), AutoOr::Auto);
        assert!(report.findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{report}");
        assert!(report.findings.iter().all(|finding| finding.advice.is_none()), "{report}");
        let without = judge(&Facts { directory: None, ..good() }, AutoOr::Auto);
        assert_eq!(without.findings.len() + 3, report.findings.len());
    }
}
