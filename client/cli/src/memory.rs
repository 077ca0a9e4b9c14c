//! `hookbus memory`: host, swap, the trainer with its children, and the GPUs; every number with its age and source.

mod gpus;

use std::io::IsTerminal;
use std::time::Duration;

use hookbus_client::inspect::proto::{
    CgroupMemory, HostMemory, ProcessMemory, ProcessRole, Rank, Reading, SnapshotReply,
};

use crate::args::MemoryArgs;
use crate::failure::Failure;
use crate::table::{Table, one_line};
use crate::terminal::Style;
use crate::{format, history, json, reach, terminal};

/// Home, and clear what is below: no flicker, and the scroll-back stays.
const TO_TOP: &str = "\x1b[H\x1b[J";

/// Prints memory once, or again and again.
pub(crate) async fn memory(address: &reach::Target, args: MemoryArgs) -> Result<u8, Failure> {
    if args.history {
        return history::history(address, args).await;
    }
    let mut inspector = reach::reach(address).await?;
    let style = Style::stdout();
    let interval = args.watch.or(args.count.map(|_| 1.0));
    let Some(interval) = interval else {
        let reply = inspector.snapshot(&args.run).await?;
        print(&reply, args.output.json, "", style)?;
        return Ok(0);
    };
    let separator = if std::io::stdout().is_terminal() {
        TO_TOP
    } else {
        "\n"
    };
    let mut replies = inspector
        .watch(&args.run, Duration::from_secs_f64(interval))
        .await?;
    let mut shown: u64 = 0;
    while args.count.is_none_or(|count| shown < count) {
        let Some(reply) = replies.next().await? else {
            return Err(Failure::failed("the daemon ended the watch"));
        };
        let before = if shown == 0 && separator == "\n" {
            ""
        } else {
            separator
        };
        print(&reply, args.output.json, before, style)?;
        shown += 1;
    }
    Ok(0)
}

fn print(reply: &SnapshotReply, as_json: bool, before: &str, style: Style) -> Result<(), Failure> {
    if as_json {
        return terminal::answer_json(&json::memory(reply));
    }
    terminal::answer(&format!("{before}{}", text(reply, style)))
}

fn text(reply: &SnapshotReply, style: Style) -> String {
    let mut page = style.bold("host") + "\n";
    page.push_str(&match &reply.host {
        Some(host) => host_table(host),
        None => format!("  unknown: {}\n", format::NOT_SENT),
    });
    if let Some(run) = &reply.run {
        let title = format!("run {} ({})", one_line(&run.id), format::phase(run.phase()));
        page.push_str(&format!("\n{}\n", style.bold(&title)));
        page.push_str(&processes(&reply.ranks));
    }
    if reply.gpus.is_empty() {
        let why = if reply.gpu_unknown.is_empty() {
            "no reason was given"
        } else {
            reply.gpu_unknown.as_str()
        };
        page.push_str(&format!(
            "\n{}\n  unknown: {}\n",
            style.bold("GPU"),
            one_line(why)
        ));
    }
    for gpu in &reply.gpus {
        let title = format!("GPU {} {}", gpu.index, one_line(&gpu.name));
        page.push_str(&format!("\n{}\n{}", style.bold(&title), gpus::table(gpu)));
    }
    if reply.missed > 0 {
        page.push_str(&format!(
            "\n{} readings were missed: this watcher was too slow for them\n",
            reply.missed
        ));
    }
    page
}

/// The four columns that every number has: what, value, age, source.
struct Readings(Table);

impl Readings {
    fn new() -> Readings {
        let mut table = Table::new(2);
        table.row(["", "VALUE", "AGE", "SOURCE"]);
        Readings(table)
    }

    fn add(&mut self, what: &str, reading: Option<&Reading>, write: impl Fn(f64) -> String) {
        let value = format::reading(reading, write);
        self.0.row([
            what,
            &value,
            &format::reading_age(reading),
            format::reading_source(reading),
        ]);
    }

    fn unknown(&mut self, what: &str, why: &str) {
        let why = if why.is_empty() {
            format::NOT_SENT
        } else {
            why
        };
        let text = format!("unknown: {}", one_line(why));
        self.0.row([what, &text, "", ""]);
    }

    fn render(&self) -> String {
        self.0.render()
    }
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

fn host_table(host: &HostMemory) -> String {
    let mut table = Readings::new();
    table.add("total", host.total_bytes.as_ref(), format::bytes);
    table.add("available", host.available_bytes.as_ref(), format::bytes);
    table.add("used", host.used_bytes.as_ref(), format::bytes);
    table.add("used share", host.used_percent.as_ref(), percent);
    table.add("swap total", host.swap_total_bytes.as_ref(), format::bytes);
    table.add("swap used", host.swap_used_bytes.as_ref(), format::bytes);
    table.add("swap share", host.swap_used_percent.as_ref(), percent);
    table.render()
}

fn processes(ranks: &[Rank]) -> String {
    if ranks.is_empty() {
        return "  no rank has attached\n".to_owned();
    }
    let mut table = Readings::new();
    for rank in ranks {
        let pid = if rank.pid == 0 {
            "pid unknown".to_owned()
        } else {
            format!("pid {}", rank.pid)
        };
        let title = format!("rank {} {pid}", rank.rank);
        let Some(memory) = &rank.memory else {
            table.add(&title, None, format::bytes);
            continue;
        };
        table.add(&title, memory.rss_bytes.as_ref(), format::bytes);
        of_rank(&mut table, rank, memory);
    }
    table.render()
}

fn of_rank(table: &mut Readings, rank: &Rank, memory: &ProcessMemory) {
    let mut add = |what: &str, reading: &Option<Reading>| {
        table.add(what, reading.as_ref(), format::bytes);
    };
    add("  PSS", &memory.pss_bytes);
    let title = match rank.children {
        None => "  its children".to_owned(),
        Some(count) => format!("  its {count} children"),
    };
    add(&title, &memory.children_rss_bytes);
    if !memory.children.is_empty() {
        let workers = match memory.workers {
            None => "  PSS of the workers".to_owned(),
            Some(count) => format!("  PSS of {count} workers"),
        };
        add(&workers, &memory.workers_pss_bytes);
        add("  PSS of all, shared pages once", &memory.tree_pss_bytes);
    }
    for child in &memory.children {
        let command: String = child.command.chars().take(40).collect();
        let role = match child.role() {
            ProcessRole::Worker => " (worker)",
            _ => "",
        };
        add(
            &format!("    {} {command}{role}", child.pid),
            &child.rss_bytes,
        );
        if child
            .pss_bytes
            .as_ref()
            .is_some_and(|pss| pss.value.is_some())
        {
            add("      PSS", &child.pss_bytes);
        }
    }
    match (&memory.shm, &memory.shm_unknown) {
        (Some(shm), _) => {
            add("  /dev/shm used", &shm.used_bytes);
            add("  /dev/shm size", &shm.total_bytes);
        }
        (None, why) => table.unknown("  /dev/shm", why),
    }
    match (&memory.cgroup, &memory.cgroup_unknown) {
        (Some(group), _) => cgroup(table, group),
        (None, why) => table.unknown("  cgroup", why),
    }
    if let Some(held) = &memory.allocator {
        table.add(
            "  allocator allocated",
            held.allocated_bytes.as_ref(),
            format::bytes,
        );
        table.add(
            "  allocator reserved",
            held.reserved_bytes.as_ref(),
            format::bytes,
        );
    }
}

fn cgroup(table: &mut Readings, group: &CgroupMemory) {
    let path = if group.limit_path.is_empty() {
        &group.path
    } else {
        &group.limit_path
    };
    table.add(
        &format!("  cgroup {path} limit"),
        group.limit_bytes.as_ref(),
        limit,
    );
    for (what, reading) in [
        ("    working set", &group.working_set_bytes),
        ("    charged", &group.current_bytes),
        ("    peak", &group.peak_bytes),
        ("    page cache", &group.file_bytes),
        ("    swap", &group.swap_bytes),
    ] {
        table.add(what, reading.as_ref(), format::bytes);
    }
    table.add(
        "    killed by the kernel",
        group.oom_kills.as_ref(),
        |kills| format!("{kills:.0}"),
    );
    table.add(
        "    pressure, some",
        group.pressure_some_percent.as_ref(),
        percent,
    );
}

fn limit(bytes: f64) -> String {
    if bytes.is_finite() {
        format::bytes(bytes)
    } else {
        "none".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{ChildMemory, RunSummary};

    use super::*;

    fn bytes_reading(value: f64) -> Option<Reading> {
        Some(Reading {
            value: Some(value),
            age_s: 0.1,
            source: "/proc".into(),
            ..Default::default()
        })
    }

    #[test]
    fn known_and_unknown_stand_side_by_side() {
        let unknown = Some(Reading {
            unknown: "no /proc here".into(),
            ..Default::default()
        });
        let child = ChildMemory {
            pid: 8,
            command: "worker".into(),
            rss_bytes: bytes_reading(1048576.0),
            ..Default::default()
        };
        let memory = ProcessMemory {
            rss_bytes: bytes_reading(3.5e9),
            children_rss_bytes: unknown,
            children: vec![child],
            ..Default::default()
        };
        let reply = SnapshotReply {
            run: Some(RunSummary {
                id: "digits@1".into(),
                ..Default::default()
            }),
            ranks: vec![
                Rank {
                    pid: 7,
                    children: Some(1),
                    memory: Some(memory),
                    ..Default::default()
                },
                Rank {
                    memory: Some(ProcessMemory::default()),
                    ..Default::default()
                },
                Rank {
                    children: Some(0),
                    memory: Some(ProcessMemory::default()),
                    ..Default::default()
                },
                Rank::default(),
            ],
            gpu_unknown: "no NVML library".into(),
            ..Default::default()
        };
        let page = text(&reply, Style::plain());
        for words in [
            "host\n  unknown: the daemon did not send it",
            "rank 0 pid 7                     3.3 GiB",
            "its 1 children                 unknown: no /proc here",
            "8 worker                     1.0 MiB",
            "its children                   unknown: ",
            "its 0 children                 unknown: ",
            "rank 0 pid unknown",
            "GPU\n  unknown: no NVML library",
        ] {
            assert!(page.contains(words), "{words:?} is missing in:\n{page}");
        }
    }
}
