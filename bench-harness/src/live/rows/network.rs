//! Row 17 and N: networks that reset, cut, delay, lose and slow down, and everybody killed besides.
//!
//! Clients that mean harm are in [`super::hostile`].

use crate::entropy::Entropy;
use crate::live::child::Running;
use crate::live::job::PATIENCE;
use crate::live::namespace::Namespace;
use crate::live::producers::{SentJob, Served, ServerPlan};
use crate::live::proxy::{Proxy, Weather};
use crate::live::{Checked, Setting, Stop, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A client may need so long when much goes wrong.
const SENT_MAX: Duration = Duration::from_secs(900);

const BAD: Weather = Weather {
    reset: 0.01,
    cut: 0.01,
    stall: 0.02,
    stall_max: Duration::from_millis(300),
    piece_max: 8 << 10,
    pause: Duration::from_micros(200),
};

fn rows_of(setting: &Setting) -> u64 {
    if setting.quick { 15_000 } else { 200_000 }
}

/// Row 17.
pub fn bad_network(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-17");
    let job = SentJob::new(setting, &base.join("job"), 2, rows_of(setting))?;
    let rounds = setting.times(1, 20);
    let mut seen = [0; 4];
    for round in 0..rounds {
        let served = job.place(&base.join("place"), ServerPlan::local()?)?;
        let server = served.start()?;
        let proxy = Proxy::start(served.address(), BAD, setting.seed.wrapping_mul(31).wrapping_add(round))?;
        job.send(&served, proxy.address(), &[])?.end(SENT_MAX)?.with_code(0)?;
        served.finish(server)?;
        seen.iter_mut().zip(proxy.counts()).for_each(|(all, count)| *all += count);
    }
    let [connections, resets, cuts, stalls] = seen;
    ensure(resets + cuts > 0, || "nothing was reset or cut".to_owned())?;
    let proxied = format!(
        "{rounds} jobs over {connections} connections with {resets} resets, {cuts} cuts, {stalls} stalls: each row once"
    );
    let mut seen = vec![proxied];
    for (what, run) in [("partition", partition as fn(&Setting, &SentJob) -> _), ("bandwidth", bandwidth)] {
        match run(setting, &job) {
            Ok(text) => seen.push(text),
            Err(Stop::Skip(why)) => seen.push(format!("SKIP {what}: {why}")),
            Err(stop) => return Err(stop),
        }
    }
    Ok(seen.join("; "))
}

fn within(namespace: &Namespace) -> Checked<ServerPlan> {
    let (address, limits) = (namespace.address(7600), ", insecure = true".to_owned());
    Ok(ServerPlan { address, limits, wrapper: namespace.wrapper(), ..ServerPlan::local()? })
}

/// The cable is pulled while clients send: short enough for TCP to mend it, and longer than a client waits.
fn partition(setting: &Setting, job: &SentJob) -> Checked<String> {
    let namespace = Namespace::new()?;
    let served = job.place(&setting.scratch.join("row-17/partition"), within(&namespace)?)?;
    let server = served.start()?;
    // Slow enough to be under way when the cable is pulled.
    let narrow = namespace.narrow(if setting.quick { "8mbit" } else { "4mbit" });
    let lengths: &[u64] = if setting.quick { &[1_000] } else { &[200, 1_000, 5_000, 35_000, 2_000] };
    let mut client = job.send(&served, served.address(), &[])?;
    let mut pulled = 0;
    for &length in lengths {
        std::thread::sleep(Duration::from_millis(if setting.quick { 300 } else { 1_500 }));
        pulled += u64::from(!client.has_ended()?);
        namespace.pull()?;
        std::thread::sleep(Duration::from_millis(length));
        namespace.plug()?;
    }
    if narrow.is_ok() {
        namespace.widen()?;
    }
    client.end(SENT_MAX)?.with_code(0)?;
    served.finish(server)?;
    ensure(pulled > 0, || "all was sent before the cable was pulled".to_owned())?;
    Ok(format!("cable pulled {pulled} times for {lengths:?} ms: each row once"))
}

fn bandwidth(setting: &Setting, job: &SentJob) -> Checked<String> {
    let namespace = Namespace::new()?;
    let served = job.place(&setting.scratch.join("row-17/bandwidth"), within(&namespace)?)?;
    let server = served.start()?;
    let rate = if setting.quick { "20mbit" } else { "2mbit" };
    namespace.narrow(rate)?;
    let sent = job.send(&served, served.address(), &[])?.end(SENT_MAX)?.with_code(0)?;
    served.finish(server)?;
    Ok(format!("at {rate}/s sent in {:.1} s: each row once", sent.took.as_secs_f64()))
}

/// Row N: the client is killed, cut off, reset and sent again at random, and the server is killed too.
pub fn all_killed(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-n");
    let job = SentJob::new(setting, &base.join("job"), 2, 3 * rows_of(setting))?;
    let length = Duration::from_secs(setting.times(3, 60));
    let mut entropy = Entropy::new(setting.seed ^ 0x4E);
    let (mut servers, mut clients, mut finished) = (0, 0, 0);
    let served = job.place(&base.join("place"), ServerPlan::local()?)?;
    // As slow as it must be to be under way all the time.
    let pause = length.mul_f64(1.5) / (job.rows as u32 / 60);
    let proxy = Proxy::start(served.address(), Weather { pause, ..BAD }, setting.seed)?;
    let (began, mut server) = (Instant::now(), served.start()?);
    let mut client = send(&job, &served, proxy.address())?;
    while began.elapsed() < length {
        std::thread::sleep(Duration::from_millis(20 + entropy.below(900)));
        if client.has_ended()? {
            client.end(PATIENCE)?.with_code(0)?;
            finished += 1;
            client = send(&job, &served, proxy.address())?;
        } else if entropy.chance(0.5) {
            client.kill_after(Duration::ZERO)?;
            clients += 1;
            client = send(&job, &served, proxy.address())?;
        } else {
            server.kill_after(Duration::ZERO)?;
            servers += 1;
            server = served.start()?;
        }
    }
    proxy.calm();
    client.end(SENT_MAX)?.with_code(0)?;
    served.finish(server)?;
    let [connections, resets, cuts, _] = proxy.counts();
    ensure(servers + clients > 0, || "nobody was killed".to_owned())?;
    Ok(format!(
        "{} s: server killed {servers} times, client {clients} times, {finished} sent all before, {connections} \
         connections, {resets} reset, {cuts} cut: windows as from the files, each row once",
        length.as_secs()
    ))
}

fn send(job: &SentJob, served: &Served<'_>, to: SocketAddr) -> Checked<Running> {
    job.send(served, to, &[])
}
