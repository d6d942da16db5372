//! What a salvage tells people, before it does anything.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use corefold_shards::wal::Recovered;

use super::{Case, Finding};

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// All is sound.
    Nothing,
    /// There is something to give up, and nobody has ordered it.
    Asked,
    /// Something cannot be made good, so nothing was touched.
    Hopeless,
    /// What was listed is given up.
    Done,
}

pub(super) fn case(out: &mut dyn Write, case: &Case) -> io::Result<()> {
    let name = &case.name;
    match &case.finding {
        Finding::Sound(recovered) if case.aside.is_empty() => {
            writeln!(out, "{name}: sound, {} records up to LSN {}", recovered.records, recovered.resume.next_lsn)?;
        }
        Finding::Sound(recovered) => {
            match &case.begin {
                Some(_) => writeln!(out, "{name}: its log is sound, its newest snapshot is of no use")?,
                None => {
                    writeln!(out, "{name}: its log is sound, none of its snapshots is")?;
                    writeln!(out, "  may be lost: what shards of earlier runs have left to it")?;
                }
            }
            kept(out, recovered)?;
        }
        Finding::Unrecorded(recovered) => {
            writeln!(out, "{name}: an interrupted salvage has left it without its record")?;
            kept(out, recovered)?;
        }
        Finding::Cut { refusal, kept: recovered } => {
            refused(out, name, refusal)?;
            lost(out, recovered)?;
            kept(out, recovered)?;
            set_aside(out, case, recovered)?;
        }
        Finding::Anew { refusal, also } => {
            refused(out, name, refusal)?;
            if let Some(also) = also {
                writeln!(out, "  cannot be cut there: {also}")?;
            }
            match &case.begin {
                None => writeln!(out, "  lost: everything in it, all that was open; it begins anew")?,
                Some((path, lsn)) => {
                    writeln!(
                        out,
                        "  lost: everything in it from LSN {lsn} on, behind the snapshot {}",
                        path.display()
                    )?;
                }
            }
            writeln!(out, "  set aside as .damaged: every segment in {}", case.directory.path().display())?;
        }
        Finding::Hopeless { refusal, advice } => {
            refused(out, name, refusal)?;
            writeln!(out, "  nothing that a salvage can make good: {advice}")?;
        }
    }
    let is_hopeless = matches!(case.finding, Finding::Hopeless { .. });
    for (path, reason) in case.aside.iter().filter(|_| !is_hopeless) {
        writeln!(out, "  set aside as .damaged: {}: {reason}", path.display())?;
    }
    Ok(())
}

fn refused(out: &mut dyn Write, name: &str, refusal: &dyn Display) -> io::Result<()> {
    writeln!(out, "{name}: refused")?;
    writeln!(out, "  {refusal}")
}

fn lost(out: &mut dyn Write, recovered: &Recovered) -> io::Result<()> {
    let Some(range) = recovered.lost else { return Ok(()) };
    let (blocks, bytes) = (recovered.tail.dropped_blocks, recovered.tail.dropped_bytes);
    match range.to.0.saturating_sub(range.from.0) {
        0 => writeln!(out, "  lost: everything from LSN {} on; how much that was is not known", range.from),
        entries => writeln!(
            out,
            "  lost: LSN {} up to {}, {entries} entries at least; {blocks} sound blocks of {bytes} bytes lie behind the damage",
            range.from,
            range.to.0 - 1
        ),
    }
}

fn kept(out: &mut dyn Write, recovered: &Recovered) -> io::Result<()> {
    let at = recovered.resume.next_lsn;
    writeln!(out, "  kept: {} records below LSN {at}, {} bytes", recovered.records, recovered.bytes)
}

fn set_aside(out: &mut dyn Write, case: &Case, recovered: &Recovered) -> io::Result<()> {
    if recovered.tail.segment.0 > 0 {
        let path = case.directory.segment_path(recovered.tail.segment);
        writeln!(out, "  copied as .damaged: {}, cut at byte {}", path.display(), recovered.tail.offset)?;
    }
    for &segment in recovered.discard.iter().rev() {
        writeln!(out, "  set aside as .damaged: {}", case.directory.segment_path(segment).display())?;
    }
    Ok(())
}

pub(super) fn ending(out: &mut dyn Write, root: &Path, ending: Ending) -> io::Result<()> {
    let root = root.display();
    match ending {
        Ending::Nothing => writeln!(out, "nothing to salvage"),
        Ending::Asked => writeln!(
            out,
            "\nNothing was changed. Restore the files from a copy if there is one; `corefold salvage {root} --yes` gives up \
             what is listed as lost.\nFile inputs deal lost batches again when the job goes on, as long as they are there."
        ),
        Ending::Hopeless => writeln!(out, "\nNothing was changed: not all of it can be made good."),
        Ending::Done => writeln!(
            out,
            "\nDone. What was given up is written down in {root}/salvaged.ndjson, and what was set aside is still there \
             under its name with `.damaged`."
        ),
    }
}
