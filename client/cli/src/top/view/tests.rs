//! Frames as they are seen, kept as files. HOOKBUS_REGENERATE=1 writes them anew; look at the difference before it is
//! committed.

use std::path::PathBuf;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use hookbus_client::inspect::proto::{
    Allocator, CgroupMemory, ChildMemory, Decided, DeviceUse, EpochMark, Gpu, GpuProcess,
    Happening, HistoryReply, HostMemory, Incident, Lifecycle, MigDevice, OrderUpdate, Outcome,
    Position, Probe, ProcessMemory, ProcessRole, Rank, Reading, Result as RankOutcome, RunPhase,
    RunSummary, Series, SeriesPoint, SnapshotReply, happening,
};

use super::super::input::Action;
use super::super::model::lists::Pane;
use super::super::model::{Model, News};
use super::theme::Theme;
use super::{draw, plain};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// The daemon's clock, when the snapshot was made.
const NOW: f64 = 1_000_000_000.0;

fn known(value: f64) -> Option<Reading> {
    aged(value, 0.2)
}

fn aged(value: f64, age_s: f64) -> Option<Reading> {
    Some(Reading {
        value: Some(value),
        age_s,
        source: "/proc".into(),
        ..Default::default()
    })
}

fn unknown(why: &str) -> Option<Reading> {
    Some(Reading {
        unknown: why.into(),
        ..Default::default()
    })
}

fn run() -> RunSummary {
    RunSummary {
        id: "digits@4711".into(),
        name: "digits".into(),
        attempt: 1,
        world_size: 2,
        connected: 2,
        phase: RunPhase::Running.into(),
        position: Some(at(3, 1234)),
        max_epochs: Some(10),
        iters_per_epoch: Some(400),
        loss: Some(0.1234),
        age_s: 754.0,
        started_unix_s: NOW - 754.0,
        left_s: Some(983.0),
        ..Default::default()
    }
}

fn at(epoch: u64, iter: u64) -> Position {
    Position {
        epoch,
        iter,
        inner_iter: iter % 400,
    }
}

fn child(pid: u32, role: ProcessRole, command: &str, pss: f64, rss: f64) -> ChildMemory {
    ChildMemory {
        pid,
        command: command.into(),
        rss_bytes: known(rss * GIB),
        role: role.into(),
        pss_bytes: aged(pss * GIB, 8.0),
        uss_bytes: aged(pss * 0.5 * GIB, 8.0),
        swap_bytes: aged(0.0, 8.0),
        shmem_bytes: aged(0.2 * GIB, 8.0),
    }
}

fn memory(scale: f64) -> ProcessMemory {
    ProcessMemory {
        rss_bytes: known(1.5 * scale * GIB),
        children_rss_bytes: known(2.6 * GIB),
        pss_bytes: aged(1.25 * scale * GIB, 8.0),
        uss_bytes: aged(1.0 * scale * GIB, 8.0),
        swap_bytes: aged(0.0, 8.0),
        shmem_bytes: aged(0.2 * GIB, 8.0),
        workers_pss_bytes: aged(0.5 * GIB, 8.0),
        tree_pss_bytes: aged((1.25 * scale + 0.75) * GIB, 8.0),
        workers: Some(2),
        children: vec![
            child(
                4101,
                ProcessRole::Worker,
                "python train.py --workers 2",
                0.25,
                1.2,
            ),
            child(
                4102,
                ProcessRole::Worker,
                "python train.py --workers 2",
                0.25,
                1.2,
            ),
            child(4103, ProcessRole::Child, "ffmpeg -i -", 0.25, 0.2),
        ],
        cgroup: Some(CgroupMemory {
            path: "/docker/abc/train".into(),
            version: 2,
            limit_path: "/docker/abc".into(),
            limit_bytes: known(8.0 * GIB),
            current_bytes: known(6.0 * GIB),
            working_set_bytes: known(5.0 * GIB),
            peak_bytes: known(7.0 * GIB),
            swap_bytes: known(0.0),
            file_bytes: known(1.0 * GIB),
            oom_kills: known(0.0),
            ooms: known(0.0),
            pressure_some_percent: known(1.5),
            pressure_full_percent: known(0.0),
        }),
        seen_by: "daemon".into(),
        allocator: Some(Allocator {
            allocated_bytes: aged(20.0 * GIB, 0.5),
            reserved_bytes: aged(30.0 * GIB, 0.5),
            active_bytes: aged(21.0 * GIB, 0.5),
            device: Some(0),
            gpu: Some(0),
            ..Default::default()
        }),
        gpus: vec![DeviceUse {
            gpu: 0,
            used_bytes: known(31.0 * GIB),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn rank(number: u32) -> Rank {
    Rank {
        rank: number,
        node: "node7".into(),
        connected: true,
        pid: 4100 + 100 * number,
        position: Some(at(3, 1234 - u64::from(number))),
        point: "after_train_iter".into(),
        last: [("loss".to_owned(), 0.1234), ("lr".to_owned(), 0.01)].into(),
        events: 5000,
        step_s: Some(0.0123 + 0.001 * f64::from(number)),
        data_wait_s: Some(0.002),
        last_heard_s: 0.3,
        memory: Some(memory(1.0)),
        children: Some(3),
        ..Default::default()
    }
}

/// On a GPU that the daemon does not see.
fn beside() -> Rank {
    let mut rank = rank(1);
    rank.memory.as_mut().unwrap().allocator = None;
    rank
}

fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        name: "NVIDIA H200".into(),
        uuid: format!("GPU-{index}"),
        total_bytes: known(139.0 * GIB),
        used_bytes: known(40.0 * GIB),
        free_bytes: known(98.0 * GIB),
        reserved_bytes: known(1.0 * GIB),
        utilization_percent: known(87.0),
        temperature_celsius: known(54.0),
        power_watts: known(410.0),
        processes: vec![GpuProcess {
            pid: 4100,
            used_bytes: known(31.0 * GIB),
            command: "python".into(),
            run: "digits@4711".into(),
            rank: Some(0),
            gpu_instance: None,
        }],
        ..Default::default()
    }
}

fn snapshot() -> SnapshotReply {
    let probe = |name: &str, interval_s| Probe {
        name: name.into(),
        interval_s,
        reads: 100,
        ..Default::default()
    };
    SnapshotReply {
        run: Some(run()),
        ranks: vec![rank(0), beside()],
        host: Some(HostMemory {
            total_bytes: known(64.0 * GIB),
            available_bytes: known(48.0 * GIB),
            used_bytes: known(14.0 * GIB),
            swap_used_bytes: known(0.0),
            ..Default::default()
        }),
        gpus: vec![gpu(0)],
        probes: vec![probe("host", 0.1), probe("smaps", 10.0), probe("gpu", 1.0)],
        at_unix_s: NOW,
        ..Default::default()
    }
}

fn history() -> HistoryReply {
    let series = |name: &str, rank, device: &str, high: f64| Series {
        name: name.into(),
        rank,
        device: device.into(),
        points: (0..60)
            .map(|at| SeriesPoint {
                age_s: f64::from(600 - 10 * at),
                seconds: 10.0,
                max: high * GIB * (0.2 + 0.8 * f64::from(at) / 60.0),
                // The daemon could not look for a while, and was not there at first.
                readings: u32::from(!(20..24).contains(&at)),
                ..Default::default()
            })
            .skip(6)
            .collect(),
        ..Default::default()
    };
    HistoryReply {
        at_unix_s: NOW,
        series: vec![
            series("host_used_bytes", None, "", 14.0),
            series("tree_pss_bytes", Some(0), "", 2.0),
            series("cgroup_working_set_bytes", Some(0), "", 5.0),
            series("gpu_used_bytes", None, "0", 40.0),
        ],
        epochs: (1..4)
            .map(|epoch| EpochMark {
                epoch,
                age_s: 600.0 - 150.0 * epoch as f64,
                iter: 400 * epoch,
            })
            .collect(),
        ..Default::default()
    }
}

fn happened(at_s: f64, what: happening::What) -> News {
    News::Happened(Box::new(Happening {
        at_s,
        rank: Some(0),
        at: Some(at(3, 1200)),
        point: "after_train_iter".into(),
        what: Some(what),
        ..Default::default()
    }))
}

/// As a viewer sees it that has been there for a moment.
fn seen(reply: SnapshotReply) -> Model {
    let mut model = Model::new("", 1.0, false);
    model.address = "unix:///run/hookbus/hookbusd.sock".into();
    model.hear(News::Connected, 0.0, NOW);
    let runs = reply.run.iter().cloned().collect();
    model.hear(News::Runs(runs), 0.0, NOW);
    model.hear(News::Past(Ok(Box::new(history()))), 0.0, NOW);
    model.hear(News::Snapshot(Box::new(reply)), 0.0, NOW);
    let life = |text: &str| happening::What::Lifecycle(Lifecycle { text: text.into() });
    model.hear(happened(1.0, life("attached")), 0.0, NOW);
    let decided = happening::What::Decision(Decided {
        by: "YOLOXModeSwitchHook".into(),
        what: "mode".into(),
        reason: "the last 3 epochs begin".into(),
        id: "d".into(),
    });
    model.hear(happened(700.0, decided), 0.0, NOW);
    model
}

fn cells(
    model: &Model,
    colour: bool,
    now_s: f64,
    width: u16,
    height: u16,
) -> ratatui::buffer::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let drawn = terminal.draw(|frame| {
        draw(
            model,
            Theme { colour },
            now_s,
            frame.area(),
            frame.buffer_mut(),
        );
    });
    drawn.unwrap();
    terminal.backend().buffer().clone()
}

fn frame(model: &Model, width: u16, height: u16) -> String {
    plain(&cells(model, true, 0.0, width, height))
}

/// The frame is the one in the file.
#[track_caller]
fn is_kept(name: &str, frame: &str) {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/top/view/frames/{name}.txt"));
    if std::env::var_os("HOOKBUS_REGENERATE").is_some() {
        std::fs::write(&file, frame).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(frame, kept, "{name} is another frame now:\n{frame}");
}

#[test]
fn every_size_has_its_frame() {
    let model = seen(snapshot());
    for (width, height) in [(80, 24), (120, 40), (200, 50), (60, 14), (30, 8)] {
        is_kept(&format!("{width}x{height}"), &frame(&model, width, height));
    }
    assert_eq!(frame(&model, 19, 4), "19x4 is too small\n\n\n\n");
}

#[test]
fn no_frame_panics_and_none_leaves_its_area_whatever_the_size() {
    let mut model = seen(many());
    for width in (1..230).step_by(7) {
        for height in (1..70).step_by(3) {
            assert_eq!(
                frame(&model, width, height).lines().count(),
                usize::from(height)
            );
        }
    }
    for action in [Action::Help, Action::Back] {
        model.act(action, 0.0, String::new);
        for size in [1, 5, 20, 33] {
            assert_eq!(frame(&model, size, size).lines().count(), usize::from(size));
        }
    }
}

#[test]
fn without_colour_the_letters_are_the_same_and_no_cell_has_one() {
    let model = seen(snapshot());
    let plain_cells = cells(&model, false, 0.0, 80, 24);
    assert_eq!(plain(&plain_cells), frame(&model, 80, 24));
    let reset = ratatui::style::Color::Reset;
    for cell in plain_cells.content() {
        assert_eq!((cell.fg, cell.bg), (reset, reset));
    }
    let coloured = cells(&model, true, 0.0, 80, 24);
    assert!(coloured.content().iter().any(|cell| cell.fg != reset));
}

#[test]
fn a_machine_without_a_gpu_and_a_limit_shows_the_host() {
    let mut reply = snapshot();
    reply.gpus.clear();
    reply.gpu_unknown = "no NVML library: libnvidia-ml.so.1 is not here".into();
    for rank in &mut reply.ranks {
        let memory = rank.memory.as_mut().unwrap();
        memory.gpus.clear();
        memory.gpus_unknown = "no NVML library".into();
        memory.allocator = None;
        memory.cgroup.as_mut().unwrap().limit_bytes = known(f64::INFINITY);
    }
    is_kept("no-gpu", &frame(&seen(reply), 100, 30));
}

#[test]
fn what_is_not_known_says_so_and_nothing_is_zero() {
    let reply = SnapshotReply {
        run: Some(RunSummary {
            id: "digits@1".into(),
            world_size: 1,
            connected: 1,
            phase: RunPhase::Running.into(),
            ..Default::default()
        }),
        ranks: vec![Rank {
            connected: true,
            memory: Some(ProcessMemory {
                rss_bytes: unknown("pid namespace not shared"),
                pss_bytes: unknown("pid namespace not shared"),
                children_rss_bytes: unknown("pid namespace not shared"),
                cgroup_unknown: "pid namespace not shared".into(),
                seen_by: "trainer".into(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        host: Some(HostMemory {
            total_bytes: unknown("no /proc here"),
            ..Default::default()
        }),
        gpus: vec![Gpu {
            name: "NVIDIA H200".into(),
            total_bytes: unknown("GPU is lost"),
            used_bytes: unknown("GPU is lost"),
            ..Default::default()
        }],
        at_unix_s: NOW,
        ..Default::default()
    };
    let mut model = Model::new("", 1.0, false);
    model.hear(News::Snapshot(Box::new(reply)), 0.0, NOW);
    model.hear(
        News::Past(Err("the daemon is of another version".into())),
        0.0,
        NOW,
    );
    let text = frame(&model, 100, 30);
    is_kept("unknown", &text);
    for zero in ["0.0 MiB", " 0 us ", "0.0000", " 0 %"] {
        assert!(!text.contains(zero), "{zero} in:\n{text}");
    }
}

#[test]
fn the_chart_of_a_rank_is_of_what_could_be_read() {
    let mut remembered = history();
    remembered.series[1]
        .points
        .iter_mut()
        .for_each(|point| point.readings = 0);
    remembered.series.push(Series {
        name: "process_rss_bytes".into(),
        ..history().series[1].clone()
    });
    let mut reply = snapshot();
    for rank in &mut reply.ranks {
        rank.memory.as_mut().unwrap().pss_bytes = unknown("no right");
    }
    let mut model = Model::new("", 1.0, false);
    model.hear(News::Past(Ok(Box::new(remembered))), 0.0, NOW);
    model.hear(News::Snapshot(Box::new(reply)), 0.0, NOW);
    let text = frame(&model, 80, 40);
    assert!(
        text.contains("rank 0 RSS") && !text.contains("rank 0 PSS"),
        "{text}"
    );
}

/// Eight ranks on eight GPUs, one of them sliced, one rank gone, incidents open, several runs.
fn many() -> SnapshotReply {
    let mut reply = snapshot();
    reply.ranks = (0..8).map(rank).collect();
    for (number, rank) in reply.ranks.iter_mut().enumerate() {
        let cgroup = rank.memory.as_mut().unwrap().cgroup.as_mut().unwrap();
        (cgroup.limit_bytes, cgroup.current_bytes) = (known(64.0 * GIB), known(20.0 * GIB));
        rank.memory
            .as_mut()
            .unwrap()
            .allocator
            .as_mut()
            .unwrap()
            .gpu = u32::try_from(number).ok();
        rank.memory.as_mut().unwrap().tree_pss_bytes = aged((2.0 + 0.1 * number as f64) * GIB, 8.0);
    }
    reply.ranks[5].connected = false;
    reply.ranks[5].reason = "lost: its process is gone".into();
    reply.gpus = (0..8).map(gpu).collect();
    reply.gpus[1].mig = (0..2)
        .map(|index| MigDevice {
            index,
            gpu_instance: 3 + index,
            total_bytes: known(20.0 * GIB),
            used_bytes: known(5.0 * GIB),
            free_bytes: known(15.0 * GIB),
            reserved_bytes: unknown("the driver does not say"),
            ..Default::default()
        })
        .collect();
    reply.incidents = vec![Incident {
        id: "i".into(),
        kind: "rank_lost".into(),
        text: "rank 5 went without a goodbye".into(),
        open: true,
        rank: Some(5),
        at: Some(at(3, 1229)),
        age_s: 12.0,
    }];
    let run = reply.run.as_mut().unwrap();
    (run.world_size, run.connected, run.incidents) = (8, 7, 1);
    reply
}

#[test]
fn eight_ranks_and_a_sliced_gpu_fit() {
    let mut model = seen(many());
    let other = RunSummary {
        id: "segmentation@12".into(),
        world_size: 1,
        connected: 1,
        phase: RunPhase::Running.into(),
        started_unix_s: NOW - 9000.0,
        ..Default::default()
    };
    model.hear(News::Runs(vec![many().run.unwrap(), other]), 0.0, NOW);
    is_kept("ranks-80x24", &frame(&model, 80, 24));
    is_kept("ranks-120x40", &frame(&model, 120, 40));
    is_kept("ranks-200x50", &frame(&model, 200, 50));
    model.act(Action::Sort, 0.0, String::new);
    model.act(Action::Last, 0.0, String::new);
    is_kept("ranks-sorted", &frame(&model, 80, 24));
}

#[test]
fn names_that_are_long_or_meant_to_harm_stay_in_their_place() {
    let evil = "\x1b]0;owned\x07\x1b[31m\u{9b}2J\r\n\u{202e}";
    let long = "日本語".repeat(60) + evil;
    let mut reply = snapshot();
    let run = reply.run.as_mut().unwrap();
    run.id = format!("{long}@1");
    run.reason = evil.into();
    for rank in &mut reply.ranks {
        rank.node = long.clone();
        rank.point = evil.into();
        for child in &mut rank.memory.as_mut().unwrap().children {
            child.command = long.clone();
        }
        rank.memory
            .as_mut()
            .unwrap()
            .cgroup
            .as_mut()
            .unwrap()
            .limit_path = long.clone();
    }
    reply.gpus[0].name = evil.into();
    reply.incidents = vec![Incident {
        kind: evil.into(),
        text: long.clone(),
        open: true,
        ..Default::default()
    }];
    let mut model = seen(reply);
    model.hear(
        happened(
            5.0,
            happening::What::Lifecycle(Lifecycle { text: evil.into() }),
        ),
        0.0,
        NOW,
    );
    model.pane = Pane::Processes;
    is_kept("hostile", &frame(&model, 120, 40));
    for pane in Pane::ALL {
        model.pane = pane;
        for mode in [Action::Back, Action::Pick, Action::Filter] {
            model.act(mode, 0.0, String::new);
            evil.chars().for_each(|letter| {
                model.act(Action::Letter(letter), 0.0, String::new);
            });
            let text = frame(&model, 120, 40);
            let is_harmful =
                |letter: &char| letter.is_control() && *letter != '\n' || *letter == '\u{202e}';
            assert_eq!(text.chars().find(is_harmful), None, "{text}");
            model.act(Action::Back, 0.0, String::new);
        }
    }
}

#[test]
fn a_lost_daemon_leaves_the_last_frame_with_its_age() {
    let mut model = seen(snapshot());
    let why = "the daemon at unix:///run/a.sock went away: connection reset";
    model.hear(News::Lost(why.into()), 3.0, NOW);
    is_kept("stale", &plain(&cells(&model, true, 45.0, 80, 24)));
    model.hear(News::Connected, 46.0, NOW);
    model.hear(News::Snapshot(Box::new(snapshot())), 46.0, NOW);
    let text = plain(&cells(&model, true, 46.0, 80, 24));
    assert!(!text.contains("STALE") && !text.contains("old)"), "{text}");

    let mut never = Model::new("digits", 1.0, false);
    never.address = "unix:///run/a.sock".into();
    assert!(frame(&never, 80, 24).contains("asking unix:///run/a.sock"));
    never.hear(
        News::Lost("no daemon listens at unix:///run/a.sock".into()),
        0.0,
        NOW,
    );
    is_kept("no-daemon", &plain(&cells(&never, true, 7.0, 80, 24)));
}

#[test]
fn a_held_picture_stays_as_it_was() {
    let mut model = seen(snapshot());
    model.act(Action::Pause, 0.0, String::new);
    let before = plain(&cells(&model, true, 0.0, 80, 24));
    assert!(before.contains("HELD"), "{before}");
    let mut later = snapshot();
    later.at_unix_s = NOW + 5.0;
    later.run.as_mut().unwrap().position = Some(at(9, 3999));
    model.hear(News::Snapshot(Box::new(later)), 5.0, NOW);
    assert_eq!(plain(&cells(&model, true, 60.0, 80, 24)), before);
    model.act(Action::Pause, 60.0, String::new);
    assert!(plain(&cells(&model, true, 5.0, 80, 24)).contains("iter 3999"));
}

#[test]
fn pages_lie_over_the_panes() {
    let mut model = seen(snapshot());
    model.act(Action::Help, 0.0, String::new);
    is_kept("help", &frame(&model, 80, 30));
    model.act(Action::Back, 0.0, String::new);
    model.pane = Pane::Processes;
    model.act(Action::Pick, 0.0, String::new);
    is_kept("details", &frame(&model, 100, 40));
}

#[test]
fn an_order_is_shown_with_its_effect_and_its_results() {
    let type_in = |model: &mut Model, text: &str| {
        text.chars().for_each(|letter| {
            model.act(Action::Letter(letter), 0.0, String::new);
        });
        model.act(Action::Pick, 0.0, String::new)
    };
    let mut model = seen(snapshot());
    model.act(Action::Stop, 0.0, String::new);
    let text = frame(&model, 80, 24);
    assert!(text.contains("reading only: start it with --arm"), "{text}");

    model.armed = true;
    model.act(Action::LearningRate, 0.0, String::new);
    assert_eq!(type_in(&mut model, "half"), None);
    is_kept("order-rate", &frame(&model, 80, 24));
    model.act(Action::EraseAll, 0.0, String::new);
    assert_eq!(type_in(&mut model, "x0.5"), None);
    is_kept("order-confirm", &frame(&model, 80, 24));
    let sent = type_in(&mut model, "lr digits");
    assert!(matches!(
        sent,
        Some(super::super::model::act::Effect::Send(_))
    ));
    let update = |waiting: Vec<u32>, rank, outcome: Option<Outcome>| {
        News::Order(OrderUpdate {
            id: "o1".into(),
            waiting,
            rank,
            result: outcome.map(|outcome| RankOutcome {
                outcome: outcome.into(),
                at: Some(at(3, 1240)),
                point: "before_train_iter".into(),
                ..Default::default()
            }),
        })
    };
    model.hear(update(vec![0, 1], 0, None), 0.0, NOW);
    let text = frame(&model, 80, 24);
    assert!(text.contains("Esc close; the order is sent"), "{text}");
    model.hear(update(vec![1], 0, Some(Outcome::Applied)), 0.0, NOW);
    model.hear(update(vec![], 1, Some(Outcome::Unsupported)), 0.0, NOW);
    model.hear(News::OrderEnded(Ok(())), 0.0, NOW);
    is_kept("order-results", &frame(&model, 80, 24));
}

#[test]
fn the_page_shows_a_frame_of_now() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/top.md")).unwrap();
    assert!(
        page.contains(&frame(&seen(snapshot()), 80, 24)),
        "copy frames/80x24.txt into docs/top.md"
    );
}
