//! Rows 5, 7, 8 and 9: files that were cut, flipped, exchanged, planted or lost. Detected, or provably harmless.
//!
//! How damage is judged is in [`crate::live::damage`].

use crate::entropy::Entropy;
use crate::live::damage::{Answer, Bench, Image, Outcome, Remains, ask, memory_directory, remains_of_a_run};
use crate::live::job::{Files, Job, Place, SMALL, TINY};
use crate::live::{Checked, Setting, ensure, fail};
use corefold_engine::manifest::MANIFEST_FILE;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What the disk moves as one.
const PAGE: usize = 4096;

/// A place with a small job that was killed, and what it left.
struct Scene<'a> {
    place: Place<'a>,
    remains: Remains,
}

impl<'a> Scene<'a> {
    fn new(setting: &Setting, job: &'a Job, name: &str) -> Checked<Scene<'a>> {
        let place = job.place(setting.scratch.join(name).join("place"))?;
        // Killed later and later, until there is something of everything; the moments depend on the machine.
        for attempt in 0..40 {
            let remains = remains_of_a_run(&place, 0.6 + 0.01 * f64::from(attempt))?;
            let lines = |bytes: &Vec<u8>| bytes.iter().filter(|byte| **byte == b'\n').count();
            let manifest = remains.store.get(Path::new(MANIFEST_FILE)).map_or(0, lines);
            if manifest > 3 && !remains.names(".snap").is_empty() {
                return Ok(Scene { place, remains });
            }
        }
        fail("no killed run left snapshots and a manifest with outputs")
    }

    fn bench(&self, setting: &Setting, name: &str) -> Checked<Bench> {
        Bench::new(&memory_directory(&setting.scratch, name), &self.remains.store, SMALL.lanes as usize)
    }

    /// The data directory with another content of one file.
    fn with(&self, name: &Path, bytes: Vec<u8>) -> Files {
        let mut store = self.remains.store.clone();
        store.insert(name.to_owned(), bytes);
        store
    }

    fn ask(&self, store: &Files, what: &str) -> Checked<Answer> {
        ask(&self.place, &self.remains, store, what)
    }
}

/// Damage of one kind, counted by what became of it.
#[derive(Default)]
struct Tally {
    tried: u64,
    same: u64,
    refused: u64,
    /// States that are neither refused nor the same, with one example each.
    others: BTreeMap<(PathBuf, u64), (Vec<u64>, u8)>,
    other_count: u64,
    /// A few of each kind for the program.
    samples: Vec<(PathBuf, u64, u8)>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome, baseline: u64, name: &Path, bytes: &[u64], bit: u8) -> Checked {
        self.tried += 1;
        let place = || format!("{} byte {} bit {bit}", name.display(), bytes[0]);
        match outcome {
            Outcome::State(state) if state == baseline => self.same += 1,
            Outcome::State(state) => {
                self.other_count += 1;
                self.others.entry((name.to_owned(), state)).or_insert_with(|| (bytes.to_vec(), bit));
            }
            Outcome::Refused(why) => {
                self.refused += 1;
                // The place: the file, or the log it belongs to.
                let file = name.file_name().unwrap_or_default().to_string_lossy();
                let parent = name.parent().unwrap_or(Path::new("")).to_string_lossy();
                let is_named = why.contains(&*file) || (!parent.is_empty() && why.contains(&*parent));
                ensure(is_named, || format!("{}: refused without the place: {why}", place()))?;
            }
            Outcome::Panic => return fail(format!("{}: a panic", place())),
        }
        Ok(())
    }

    fn merge(&mut self, other: Tally) {
        self.tried += other.tried;
        self.same += other.same;
        self.refused += other.refused;
        self.other_count += other.other_count;
        self.others.extend(other.others);
        self.samples.extend(other.samples);
    }
}

/// Row 7: every single bit of a small data directory.
pub fn flipped_bits(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-7"), TINY)?;
    let scene = Scene::new(setting, &job, "row-7")?;
    let logs: Vec<&PathBuf> = scene.remains.store.keys().filter(|name| is_judged(name)).collect();
    // One bit in so many, in the quick half.
    let stride = if setting.quick { 499 } else { 1 };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bench = scene.bench(setting, "flips")?;
    let work = |thread: usize| -> Checked<Tally> {
        let mut entropy = Entropy::new(setting.seed ^ thread as u64);
        let mut tally = Tally::default();
        for name in &logs {
            let content = &scene.remains.store[*name];
            let mut image = bench.image(name, &scene.remains.store)?;
            flip_pages(&mut image, name, content, stride, (thread, threads), &mut entropy, &mut tally)?;
        }
        Ok(tally)
    };
    let results: Vec<Checked<Tally>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| fail("a thread of the check panicked")))
            .collect()
    });
    let mut total = Tally::default();
    for result in results {
        total.merge(result?);
    }
    let asked = ask_program(setting, &scene, &total)?;
    let texts = flip_texts(setting, &scene)?;
    scene.place.remove()?;
    let Tally { tried, same, refused, other_count, others, .. } = &total;
    let bytes: usize = logs.iter().map(|name| scene.remains.store[*name].len()).sum();
    Ok(format!(
        "{tried} flips of {} bytes in {} files: {refused} refused with the place, {same} without effect, {other_count} \
         cut a tail or fell back to an older snapshot ({} states); the program agreed in {asked} runs; {texts}",
        bytes,
        logs.len(),
        others.len()
    ))
}

/// Every bit of every page that is not all zeros; and each bit of a page in all zero pages of a file at once, since
/// what lies there is either nowhere read or read alike.
fn flip_pages(
    image: &mut Image,
    name: &Path,
    content: &[u8],
    stride: u64,
    (thread, threads): (usize, usize),
    entropy: &mut Entropy,
    tally: &mut Tally,
) -> Checked {
    let baseline = match image.look() {
        Outcome::State(state) => state,
        other => return fail(format!("{} without damage: {other:?}", name.display())),
    };
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let (mut zeros, mut bits) = (Vec::new(), Vec::new());
    for (index, page) in content.chunks(PAGE).enumerate() {
        let at = (index * PAGE) as u64;
        if is_zero(page) && page.len() == PAGE {
            zeros.push(at);
        } else {
            bits.extend((0..page.len() as u64 * 8).map(|bit| at * 8 + bit));
        }
    }
    let mut try_flip = |bytes: &[u64], bit: u8| -> Checked {
        image.flip(bytes, bit);
        let outcome = image.look();
        image.flip(bytes, bit);
        tally.add(outcome, baseline, name, bytes, bit)?;
        if entropy.chance(if stride > 1 { 0.001 } else { 0.0003 }) {
            tally.samples.push((name.to_owned(), bytes[0], bit));
        }
        Ok(())
    };
    let mine = |index: usize| index % threads == thread && ((index / threads) as u64).is_multiple_of(stride);
    for (_, bit) in bits.iter().enumerate().filter(|(index, _)| mine(*index)) {
        try_flip(&[bit / 8], (bit % 8) as u8)?;
    }
    if zeros.is_empty() {
        return Ok(());
    }
    // Headers end at byte 64, and beyond that one page is like the other.
    for bit in (0..PAGE * 8).filter(|bit| mine(*bit) && (stride == 1 || *bit < 64 * 8)) {
        let bytes: Vec<u64> = zeros.iter().map(|page| page + bit as u64 / 8).collect();
        try_flip(&bytes, (bit % 8) as u8)?;
    }
    Ok(())
}

/// One run of the program for every state that recovery took for another, and for a sample of the rest.
fn ask_program(setting: &Setting, scene: &Scene<'_>, total: &Tally) -> Checked<u64> {
    let most = if setting.quick { 8 } else { 400 };
    let others = total.others.iter().map(|((name, _), (bytes, bit))| (name, bytes.clone(), *bit));
    let samples = total.samples.iter().map(|(name, byte, bit)| (name, vec![*byte], *bit));
    let mut asked = 0;
    for (name, bytes, bit) in others.chain(samples.take(most)) {
        let mut content = scene.remains.store[name].clone();
        bytes.iter().for_each(|&byte| content[byte as usize] ^= 1 << bit);
        scene.ask(&scene.with(name, content), &format!("{} byte {} bit {bit}", name.display(), bytes[0]))?;
        asked += 1;
    }
    Ok(asked)
}

/// Whether damage to a file can be judged in this process.
fn is_judged(name: &Path) -> bool {
    name.extension().is_some_and(|extension| ["wal", "snap", "json", "ndjson"].iter().any(|known| extension == *known))
}

/// Other files are put to the program bit by bit.
fn flip_texts(setting: &Setting, scene: &Scene<'_>) -> Checked<String> {
    let stride = if setting.quick { 977 } else { 1 };
    let (mut same, mut refused) = (0u64, 0u64);
    for (name, content) in &scene.remains.store {
        if is_judged(name) {
            continue;
        }
        for bit in (0..content.len() * 8).step_by(stride) {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{} byte {} bit {}", name.display(), bit / 8, bit % 8);
            match scene.ask(&scene.with(name, damaged), &what)? {
                Answer::Same => same += 1,
                Answer::Refused => refused += 1,
            }
        }
    }
    Ok(format!("{} flips of other files through the program: {refused} refused, {same} harmless", same + refused))
}

/// Row 5: the newest segments are cut, zeroed and filled with rubbish from every 512th byte on.
pub fn torn_segments(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-5"), SMALL)?;
    let scene = Scene::new(setting, &job, "row-5")?;
    let bench = scene.bench(setting, "torn")?;
    let mut entropy = Entropy::new(setting.seed ^ 5);
    let (mut tried, mut refused) = (0, 0);
    let mut states: BTreeMap<Outcome, Files> = BTreeMap::new();
    for name in newest_segments(&scene.remains) {
        let content = &scene.remains.store[&name];
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let step = if setting.quick { 13_824 } else { 512 };
        for cut in (0..=(used + 2 * PAGE).min(content.len())).step_by(step) {
            for damage in 0..3 {
                let mut damaged = content.clone();
                match damage {
                    0 => damaged.truncate(cut),
                    1 => damaged[cut..].fill(0),
                    _ => damaged[cut..].iter_mut().for_each(|byte| *byte = entropy.bits() as u8),
                }
                bench.replace(&name, &damaged)?;
                let outcome = bench.look();
                tried += 1;
                match &outcome {
                    Outcome::Panic => return fail(format!("{} cut at {cut}: a panic", name.display())),
                    Outcome::Refused(_) => refused += 1,
                    Outcome::State(_) => {}
                }
                states.entry(outcome).or_insert_with(|| scene.with(&name, damaged));
            }
        }
        bench.replace(&name, content)?;
    }
    let most = if setting.quick { 4 } else { 300 };
    let asked = states.len().min(most);
    for (outcome, store) in states.iter().take(most) {
        let answer = scene.ask(store, &format!("{outcome:?}"))?;
        let both = matches!(outcome, Outcome::Refused(_)) == (answer == Answer::Refused);
        ensure(both, || format!("recovery alone says {outcome:?}, the program {answer:?}"))?;
    }
    scene.place.remove()?;
    Ok(format!(
        "{tried} segments cut, zeroed or overwritten from every 512th byte on: {refused} refused with the place, the \
         others lost a tail; {asked} of {} outcomes put to the program: same bytes and ledger, or refused",
        states.len()
    ))
}

/// The newest segment of each log that holds a block.
fn newest_segments(remains: &Remains) -> Vec<PathBuf> {
    let mut newest: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for name in remains.names(".wal") {
        let content = &remains.store[&name];
        if content.len() > PAGE && content[PAGE..PAGE + 4] == *b"CFWB" {
            newest.insert(name.parent().unwrap_or(Path::new("")).to_owned(), name);
        }
    }
    newest.into_values().collect()
}

/// Row 8: segments, snapshots and whole logs are missing, exchanged, renamed, or planted from another time or place.
pub fn misplaced_files(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-8"), SMALL)?;
    let place = job.place(setting.scratch.join("row-8/place"))?;
    let early = remains_of_a_run(&place, 0.4)?;
    // The same directory later: the run goes on and is killed again.
    place.start(Default::default())?.kill_after(job.took.mul_f64(0.5))?;
    let remains = Remains::of(&place)?;
    // Another store of the same job.
    let stranger = remains_of_a_run(&place, 0.6)?;
    let scene = Scene { place, remains };
    let files: Vec<PathBuf> =
        scene.remains.store.keys().filter(|name| !name.ends_with("store.lock")).cloned().collect();
    let mut damages: Vec<(String, Files)> = Vec::new();
    let base = &scene.remains.store;
    for name in &files {
        let mut store = base.clone();
        store.remove(name);
        damages.push((format!("{} is missing", name.display()), store));
        for (whose, other) in [("its own past", &early.store), ("another store", &stranger.store)] {
            if let Some(bytes) = other.get(name).filter(|bytes| **bytes != base[name]) {
                damages.push((format!("{} is of {whose}", name.display()), scene.with(name, bytes.clone())));
            }
        }
    }
    for (index, one) in files.iter().enumerate() {
        let alike = |other: &&PathBuf| one.extension().is_some() && other.extension() == one.extension();
        for other in files[index + 1..].iter().filter(alike) {
            let mut store = scene.with(one, base[other].clone());
            store.insert(other.clone(), base[one].clone());
            damages.push((format!("{} and {} are exchanged", one.display(), other.display()), store));
            let store = scene.with(other, base[one].clone());
            damages.push((format!("{} is a copy of {}", other.display(), one.display()), store));
        }
    }
    let directories: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|name| name.iter().next().map(PathBuf::from))
        .filter(|top| !files.contains(top))
        .collect();
    for directory in directories {
        let mut store = base.clone();
        store.retain(|name, _| !name.starts_with(&directory));
        damages.push((format!("{} is missing", directory.display()), store));
    }
    let stride = if setting.quick { damages.len().div_ceil(6) } else { 1 };
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    for (what, store) in damages.iter().step_by(stride) {
        match scene.ask(store, what) {
            Ok(Answer::Same) => same += 1,
            Ok(Answer::Refused) => refused += 1,
            Err(stop) => wrong.push(stop.to_string()),
        }
    }
    ensure(wrong.is_empty(), || format!("{} of {}: {}", wrong.len(), damages.len(), wrong.join("\n\n")))?;
    scene.place.remove()?;
    Ok(format!(
        "{} files missing, exchanged, copied or of another time or store: {refused} refused, {same} without effect",
        same + refused
    ))
}

/// Row 9: a bit in every region of every snapshot, alone and in both at once.
pub fn damaged_snapshots(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-9"), SMALL)?;
    let scene = Scene::new(setting, &job, "row-9")?;
    let snapshots = scene.remains.names(".snap");
    ensure(!snapshots.is_empty(), || "the killed run left no snapshot".to_owned())?;
    let steps = if setting.quick { 2 } else { 64 };
    let (mut same, mut refused) = (0, 0);
    for name in &snapshots {
        let content = &scene.remains.store[name];
        // Each field of the header, then places all over the file to its last byte.
        let fields = [0, 8, 12, 16, 32, 40, 48, 56, 64, 72, 80, 4_092];
        let fields = fields.iter().step_by(if setting.quick { 7 } else { 1 });
        let places: BTreeSet<usize> =
            fields.copied().chain((0..=steps).map(|step| PAGE + step * (content.len() - 1 - PAGE) / steps)).collect();
        for at in places {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            match scene.ask(&scene.with(name, damaged), &format!("{} byte {at}", name.display()))? {
                Answer::Same => same += 1,
                Answer::Refused => refused += 1,
            }
        }
    }
    let mut all = scene.remains.store.clone();
    for name in &snapshots {
        if let Some(content) = all.get_mut(name) {
            let last = content.len() - 1;
            content[last] ^= 1;
        }
    }
    let both = scene.ask(&all, "every snapshot is damaged")?;
    scene.place.remove()?;
    Ok(format!(
        "{} flips over {} snapshots: {same} fell back to the older snapshot or the log, {refused} refused; all snapshots \
         damaged at once: {both:?}",
        same + refused,
        snapshots.len()
    ))
}
