//! GPUs by the real daemon and the real nvml-wrapper, over a stand-in for NVIDIA's library (`tests/nvml`) whose machine the
//! tests change while the daemon looks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hookbus_client::inspect::Inspector;
use hookbus_e2e::{NVML, Raw, Sandbox, binary, wait_for};
use hookbus_proto::v1::{Event, EventBatch, Gpu, Reading, SnapshotReply, client_frame::Frame};
use serde_json::{Value, json};
use tempfile::TempDir;

const GIB: u64 = 1 << 30;

/// A machine with a daemon.
struct Machine {
    folder: TempDir,
    sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    inspector: Inspector,
}

impl Machine {
    fn start(world: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let script = folder.path().join("script.json");
        let config = format!(
            "[sampler]\ngpu_ms = 20\ngpu_budget_percent = 100\nnvml_library = {:?}\n",
            binary(NVML)
        );
        become_(&folder, world);
        let sandbox = Sandbox::with_variables(&config, vec![("HOOKBUS_NVML_SCRIPT", script)]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let patience = Duration::from_secs(60);
        let inspector = runtime
            .block_on(Inspector::connect(&sandbox.address(), patience))
            .expect("the daemon listens");
        Self {
            folder,
            sandbox,
            runtime,
            inspector,
        }
    }

    /// From now on the machine is so.
    fn becomes(&self, world: &Value) {
        become_(&self.folder, world);
    }

    /// Looks until this holds.
    fn until<T>(&mut self, what: &str, fact: impl Fn(&SnapshotReply) -> Option<T>) -> T {
        wait_for(what, || {
            let reply = self.runtime.block_on(self.inspector.snapshot(""));
            fact(&reply.expect("the daemon answers"))
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The calls so far: function, and the GPU's index.
    fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|line| *line == call).count()
    }

    /// Until it was looked at all GPUs so often again.
    fn turns(&self, turns: usize) {
        let counted = || self.count("nvmlDeviceGetCount_v2");
        let before = counted();
        wait_for("more turns", || (counted() >= before + turns).then_some(()));
    }
}

/// A file is never seen half written.
fn become_(folder: &TempDir, world: &Value) {
    let mut world = world.clone();
    world["log"] = json!(folder.path().join("calls"));
    let fresh = folder.path().join("fresh.json");
    std::fs::write(&fresh, world.to_string()).expect("the script is written");
    std::fs::rename(fresh, folder.path().join("script.json")).expect("the script is replaced");
}

fn whole(pid: u32) -> Value {
    json!({
        "name": "NVIDIA H100", "uuid": "GPU-11111111-aaaa",
        "memory": {"total": 80 * GIB, "reserved": GIB / 2, "used": 20 * GIB},
        "busy": [93, 41], "temperature_c": 61, "power_mw": 412_500, "can_slice": true,
        "compute": [{"pid": pid, "used": 18 * GIB}, {"pid": 1, "used": null}],
        "graphics": [{"pid": pid, "used": 18 * GIB}],
    })
}

fn sliced() -> Value {
    json!({
        "name": "NVIDIA A100", "uuid": "GPU-22222222-bbbb",
        "memory": {"total": 40 * GIB, "reserved": GIB, "used": 2 * GIB},
        "busy": [50, 50], "temperature_c": 40, "power_mw": 90_000, "can_slice": true,
        "compute": [{"pid": 1, "used": GIB, "gpu_instance": 3, "compute_instance": 0}],
        "mig": [
            null,
            {"uuid": "MIG-c1", "gpu_instance": 3, "compute_instance": 0,
             "memory": {"total": 10 * GIB, "reserved": 0, "used": GIB}},
            {"uuid": "MIG-c2", "gpu_instance": 4, "compute_instance": 0, "memory": null},
        ],
    })
}

fn two() -> Value {
    json!({"driver": "580.95.05", "gpus": [whole(std::process::id()), sliced()]})
}

fn value(reading: &Option<Reading>) -> Option<f64> {
    reading.as_ref().expect("a reading is there").value
}

fn why(reading: &Option<Reading>) -> &str {
    let reading = reading.as_ref().expect("a reading is there");
    assert_eq!(reading.value, None, "what is not known has no value");
    &reading.unknown
}

fn gib(gib: f64) -> Option<f64> {
    Some(gib * GIB as f64)
}

/// Both GPUs, once the first is as wanted.
fn both(reply: &SnapshotReply, wanted: impl Fn(&Gpu) -> bool) -> Option<(Gpu, Gpu)> {
    match &reply.gpus[..] {
        [first, second] if wanted(first) => Some((first.clone(), second.clone())),
        _ => None,
    }
}

#[test]
fn two_gpus_their_slices_and_whose_the_processes_are() {
    let mut machine = Machine::start(&two());
    let mut hello = Raw::hello("digits", 0, 1, "s1");
    hello.metrics = ["cuda_reserved_bytes", "cuda_device"]
        .map(str::to_owned)
        .to_vec();
    let event = Event {
        point: 2,
        metrics: vec![0, 1],
        values: vec![17.0 * GIB as f64, 0.0],
        ..Event::default()
    };
    let batch = EventBatch {
        first_seq: 1,
        events: vec![event],
        ..EventBatch::default()
    };
    let address = machine.sandbox.address();
    let _raw = machine.runtime.block_on(async {
        let (mut raw, _) = Raw::attach(&address, hello).await;
        raw.send(Frame::Batch(batch)).await;
        raw.acked(1).await;
        raw
    });
    let reply = machine.until("a rank whose process is on a GPU", |reply| {
        let memory = reply.ranks.first()?.memory.as_ref()?;
        let is_there = reply.gpus.len() == 2 && !memory.gpus.is_empty();
        (is_there && memory.allocator.is_some()).then(|| reply.clone())
    });

    let (first, second) = (&reply.gpus[0], &reply.gpus[1]);
    assert_eq!((first.index, &*first.name), (0, "NVIDIA H100"));
    assert_eq!(first.uuid, "GPU-11111111-aaaa");
    assert_eq!(value(&first.total_bytes), gib(80.0));
    assert_eq!(value(&first.used_bytes), gib(20.0));
    assert_eq!(value(&first.reserved_bytes), gib(0.5));
    assert_eq!(value(&first.free_bytes), gib(59.5));
    assert_eq!(value(&first.utilization_percent), Some(93.0));
    assert_eq!(value(&first.memory_busy_percent), Some(41.0));
    assert_eq!(value(&first.temperature_celsius), Some(61.0));
    assert_eq!(value(&first.power_watts), Some(412.5));
    assert!(first.mig.is_empty() && !first.unified);

    // In both lists, and one process; of the other the driver does not say it.
    let [own, other] = &first.processes[..] else {
        panic!("two processes: {:?}", first.processes);
    };
    let comm = std::fs::read_to_string("/proc/self/comm").expect("its name");
    assert_eq!((own.pid, &*own.command), (std::process::id(), comm.trim()));
    assert_eq!(value(&own.used_bytes), gib(18.0));
    assert_eq!((&*own.run, own.rank), ("digits@launch", Some(0)));
    assert_eq!((&*other.run, other.rank), ("", None));
    assert!(why(&other.used_bytes).contains("does not say"));

    assert_eq!(second.name, "NVIDIA A100");
    assert!(why(&second.utilization_percent).contains("sliced"));
    assert_eq!(value(&second.power_watts), Some(90.0));
    let [slice, dumb] = &second.mig[..] else {
        panic!("two slices: {:?}", second.mig);
    };
    assert_eq!((slice.index, &*slice.uuid), (1, "MIG-c1"));
    assert_eq!((slice.gpu_instance, slice.compute_instance), (3, 0));
    assert_eq!(value(&slice.total_bytes), gib(10.0));
    assert_eq!(value(&slice.free_bytes), gib(9.0));
    assert_eq!(dumb.gpu_instance, 4);
    assert!(why(&dumb.used_bytes).contains("not supported"));
    assert_eq!(second.processes[0].gpu_instance, Some(3));

    let memory = reply.ranks[0].memory.as_ref().expect("it was asked for");
    let [used] = &memory.gpus[..] else {
        panic!("one GPU: {:?}", memory.gpus);
    };
    assert_eq!((used.gpu, &*used.uuid), (0, "GPU-11111111-aaaa"));
    assert_eq!(value(&used.used_bytes), gib(18.0));
    let allocator = memory.allocator.as_ref().expect("it was asked for");
    assert_eq!(value(&allocator.reserved_bytes), gib(17.0));
    assert!(why(&allocator.ooms).contains("has not sent"));
    assert_eq!((allocator.device, allocator.gpu), (Some(0), Some(0)));

    let shown = Command::new(binary("hookbus"))
        .args(["--address", &machine.sandbox.url(), "memory"])
        .output()
        .expect("hookbus runs");
    let page = String::from_utf8(shown.stdout).expect("text");
    let process = format!("process {} {}, digits@launch rank 0", own.pid, comm.trim());
    for words in [
        "GPU 0 NVIDIA H100",
        "512.0 MiB",
        &process,
        "slice 1 (GI 3, CI 0)",
    ] {
        assert!(page.contains(words), "{words:?} is missing in:\n{page}");
    }
}

#[test]
fn memory_is_asked_once_a_turn() {
    let machine = Machine::start(&two());
    machine.turns(4);
    let calls = machine.calls();
    let turns: Vec<_> = calls
        .split(|call| call == "nvmlDeviceGetCount_v2")
        .collect();
    // The first part is before the first turn, the last one may not be whole.
    for turn in &turns[1..turns.len() - 1] {
        for call in [
            "nvmlDeviceGetMemoryInfo_v2 0",
            "nvmlDeviceGetUtilizationRates 0",
        ] {
            let asked = turn.iter().filter(|line| *line == call).count();
            assert_eq!(asked, 1, "{call} in {turn:?}");
        }
    }
}

#[test]
fn a_lost_gpu_hides_no_other_and_is_read_again_when_it_is_back() {
    let mut world = two();
    let mut machine = Machine::start(&world);
    machine.until("two GPUs", |reply| both(reply, |_| true));
    world["gpus"][0]["lost"] = json!(true);
    world["gpus"][1]["memory"]["used"] = json!(3 * GIB);
    machine.becomes(&world);
    let (first, second) = machine.until("a lost GPU beside another", |reply| {
        let (first, second) = both(reply, |gpu| value(&gpu.total_bytes).is_none())?;
        (value(&second.used_bytes) == gib(3.0)).then_some((first, second))
    });
    assert_eq!((first.index, &*first.name), (0, "NVIDIA H100"));
    assert_eq!(first.uuid, "GPU-11111111-aaaa");
    for reading in [&first.used_bytes, &first.free_bytes, &first.power_watts] {
        assert_eq!(why(reading), "GPU is lost");
    }
    assert_eq!(first.processes_unknown, "GPU is lost");
    assert_eq!(second.mig.len(), 2);

    world["gpus"][0]["lost"] = json!(false);
    machine.becomes(&world);
    let is_back = |gpu: &Gpu| value(&gpu.used_bytes) == gib(20.0);
    machine.until("the GPU is back", |reply| both(reply, is_back));
    assert_eq!(machine.count("nvmlInit_v2"), 1, "the others were read on");
}

#[test]
fn where_every_gpu_is_lost_the_driver_is_opened_anew() {
    let mut world = json!({"gpus": [whole(1)]});
    let mut machine = Machine::start(&world);
    machine.until("a GPU", |reply| reply.gpus.first().cloned());
    world["gpus"][0]["lost"] = json!(true);
    machine.becomes(&world);
    wait_for("it was opened again", || {
        (machine.count("nvmlInit_v2") > 2).then_some(())
    });
    let lost = machine.until("it is still shown", |reply| reply.gpus.first().cloned());
    assert_eq!(
        (&*lost.name, why(&lost.total_bytes)),
        ("NVIDIA H100", "GPU is lost")
    );
    world["gpus"][0]["lost"] = json!(false);
    machine.becomes(&world);
    machine.until("it is back", |reply| {
        value(&reply.gpus.first()?.total_bytes).filter(|total| *total == 80.0 * GIB as f64)
    });
}

#[test]
fn a_restarted_driver_is_opened_anew() {
    let mut world = two();
    let mut machine = Machine::start(&world);
    machine.until("two GPUs", |reply| both(reply, |_| true));
    world["answers"] = json!({"*": "driver_not_loaded"});
    machine.becomes(&world);
    let why = machine.until("no GPU", |reply| {
        (!reply.gpu_unknown.is_empty()).then(|| reply.gpu_unknown.clone())
    });
    assert!(why.contains("driver is not loaded"), "{why}");

    // It counts in another order now, and has forgotten who initialised it.
    world["start"] = json!(2);
    world["answers"] = json!({});
    world["gpus"] = json!([sliced(), whole(1)]);
    machine.becomes(&world);
    let (first, second) = machine.until("both are back", |reply| {
        both(reply, |gpu| value(&gpu.total_bytes).is_some())
    });
    assert_eq!(
        (&*first.name, &*second.name),
        ("NVIDIA A100", "NVIDIA H100")
    );
    assert_eq!((first.mig.len(), second.mig.len()), (2, 0));
    assert_eq!(value(&second.utilization_percent), Some(93.0));

    // Not told that it goes: the next call says UNINITIALIZED.
    world["start"] = json!(3);
    world["gpus"][0]["memory"]["used"] = json!(7 * GIB);
    machine.becomes(&world);
    machine.until("it is read after another restart", |reply| {
        both(reply, |gpu| value(&gpu.used_bytes) == gib(7.0))
    });
}

#[test]
fn only_not_supported_is_final() {
    let mut world = json!({"gpus": [whole(1)]});
    world["gpus"][0]["temperature_c"] = Value::Null;
    world["gpus"][0]["answers"] = json!({"nvmlDeviceGetPowerUsage": "timeout"});
    let mut machine = Machine::start(&world);
    let gpu = machine.until("a GPU", |reply| reply.gpus.first().cloned());
    assert!(why(&gpu.temperature_celsius).contains("not supported"));
    assert!(why(&gpu.power_watts).contains("timeout"));
    assert_eq!(value(&gpu.total_bytes), gib(80.0));

    world["gpus"] = json!([whole(1)]);
    machine.becomes(&world);
    let gpu = machine.until("the power is known", |reply| {
        let gpu = reply.gpus.first()?;
        value(&gpu.power_watts).map(|_| gpu.clone())
    });
    machine.turns(3);
    assert!(why(&gpu.temperature_celsius).contains("not supported"));
    assert_eq!(machine.count("nvmlDeviceGetTemperature 0"), 1);

    world["start"] = json!(2);
    machine.becomes(&world);
    machine.until("it is asked again after a restart", |reply| {
        value(&reply.gpus.first()?.temperature_celsius)
    });
}

#[test]
fn a_gpu_that_uses_the_hosts_memory_has_none_and_not_zero() {
    let mut world = json!({"gpus": [whole(1)]});
    world["gpus"][0]["memory"] = Value::Null;
    let mut machine = Machine::start(&world);
    let gpu = machine.until("a GPU", |reply| reply.gpus.first().cloned());
    assert!(gpu.unified);
    for reading in [&gpu.total_bytes, &gpu.used_bytes, &gpu.free_bytes] {
        assert!(why(reading).contains("not supported"));
    }
    assert_eq!(value(&gpu.utilization_percent), Some(93.0));
    assert!(gpu.processes_unknown.is_empty());
}

#[test]
fn with_an_older_driver_what_is_reserved_is_not_known() {
    for answer in ["function_not_found", "argument_version_mismatch"] {
        let mut world = json!({"gpus": [whole(1)]});
        world["gpus"][0]["answers"] = json!({"nvmlDeviceGetMemoryInfo_v2": answer});
        let mut machine = Machine::start(&world);
        let gpu = machine.until("a GPU", |reply| reply.gpus.first().cloned());
        assert_eq!(value(&gpu.total_bytes), gib(80.0));
        assert_eq!(value(&gpu.used_bytes), gib(20.5));
        let used = gpu.used_bytes.as_ref().expect("it is known");
        assert!(used.source.contains("with what the driver reserves"));
        assert_eq!(value(&gpu.free_bytes), gib(59.5));
        assert!(why(&gpu.reserved_bytes).contains("first version"));
    }
}

#[test]
fn processes_of_a_sliced_gpu_are_asked_for_slice_by_slice_where_the_whole_is_not_permitted() {
    let mut world = json!({"gpus": [sliced()]});
    let function = "nvmlDeviceGetComputeRunningProcesses_v3";
    world["gpus"][0]["whole_answers"] = json!({function: "no_permission"});
    let mut machine = Machine::start(&world);
    let gpu = machine.until("a GPU", |reply| reply.gpus.first().cloned());
    let [process] = &gpu.processes[..] else {
        panic!("{gpu:?}");
    };
    assert_eq!((process.pid, process.gpu_instance), (1, Some(3)));
    world["gpus"][0]["answers"] = json!({function: "no_permission"});
    machine.becomes(&world);
    machine.until("they are not known", |reply| {
        let gpu = reply.gpus.first()?;
        gpu.processes_unknown
            .contains("does not permit")
            .then_some(())
    });
}

#[test]
fn a_call_that_stands_still_holds_up_nothing_else() {
    let mut world = two();
    let mut machine = Machine::start(&world);
    machine.until("two GPUs", |reply| both(reply, |_| true));
    let held = machine.path("held");
    std::fs::write(&held, "").expect("a file");
    world["held_by"] = json!(held);
    machine.becomes(&world);
    let age = |reading: &Option<Reading>| reading.as_ref().map(|reading| reading.age_s);
    machine.until("old GPUs beside a fresh host", |reply| {
        let gpu = age(&reply.gpus.first()?.total_bytes)?;
        let host = age(&reply.host.as_ref()?.total_bytes)?;
        (gpu > host + 0.5).then_some(())
    });
    // And the daemon does not wait for it.
    assert!(machine.sandbox.terminate().success());
    assert!(held.exists());
}
