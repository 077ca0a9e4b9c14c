//! Whatever has an age in a snapshot. Each message is taken apart with all its fields, so that a new one is not forgotten.

use super::proto::{
    Allocator, CgroupMemory, ChildMemory, DeviceUse, Gpu, GpuProcess, MigDevice, ProcessMemory,
    Rank, Reading, SharedMemory, SnapshotReply,
};

/// Everything but the run and the host, which come anew with each reply, is so much older.
pub(super) fn older(reply: &mut SnapshotReply, by_s: f64) {
    for rank in &mut reply.ranks {
        let Rank {
            memory,
            last_heard_s,
            rank: _,
            local_rank: _,
            node: _,
            connected: _,
            pid: _,
            position: _,
            point: _,
            last: _,
            events: _,
            acked: _,
            dropped: _,
            dropped_points: _,
            step_s: _,
            reason: _,
            children: _,
            gates: _,
            gate_timeouts: _,
            gate_wait_s: _,
            breaker_open: _,
            peak_rss_bytes: _,
            data_wait_s: _,
        } = rank;
        *last_heard_s += by_s;
        if let Some(memory) = memory {
            process(memory, by_s);
        }
    }
    for card in &mut reply.gpus {
        gpu(card, by_s);
    }
    for result in &mut reply.results {
        result.age_s += by_s;
    }
    for incident in &mut reply.incidents {
        incident.age_s += by_s;
    }
}

fn each<const N: usize>(readings: [&mut Option<Reading>; N], by_s: f64) {
    for reading in readings.into_iter().flatten() {
        // What was never tried has no time from which it could grow older.
        if reading.value.is_some() || reading.age_s != 0.0 {
            reading.age_s += by_s;
        }
    }
}

fn process(memory: &mut ProcessMemory, by_s: f64) {
    let ProcessMemory {
        rss_bytes,
        children_rss_bytes,
        children,
        pss_bytes,
        uss_bytes,
        swap_bytes,
        shmem_bytes,
        workers_pss_bytes,
        tree_pss_bytes,
        workers: _,
        cgroup,
        cgroup_unknown: _,
        shm,
        shm_unknown: _,
        seen_by: _,
        allocator,
        gpus,
        gpus_unknown: _,
    } = memory;
    each([rss_bytes, children_rss_bytes, pss_bytes, uss_bytes], by_s);
    each([swap_bytes, shmem_bytes, workers_pss_bytes], by_s);
    each([tree_pss_bytes], by_s);
    for one in children {
        child(one, by_s);
    }
    if let Some(group) = cgroup {
        cgroup_memory(group, by_s);
    }
    if let Some(shm) = shm {
        shared(shm, by_s);
    }
    if let Some(allocator) = allocator {
        let Allocator {
            allocated_bytes,
            reserved_bytes,
            active_bytes,
            retries,
            ooms,
            device: _,
            gpu: _,
        } = allocator;
        each([allocated_bytes, reserved_bytes, active_bytes], by_s);
        each([retries, ooms], by_s);
    }
    for one in gpus {
        let DeviceUse {
            used_bytes,
            gpu: _,
            uuid: _,
        } = one;
        each([used_bytes], by_s);
    }
}

fn child(child: &mut ChildMemory, by_s: f64) {
    let ChildMemory {
        rss_bytes,
        pss_bytes,
        uss_bytes,
        swap_bytes,
        shmem_bytes,
        pid: _,
        command: _,
        role: _,
    } = child;
    each([rss_bytes, pss_bytes, uss_bytes], by_s);
    each([swap_bytes, shmem_bytes], by_s);
}

fn cgroup_memory(group: &mut CgroupMemory, by_s: f64) {
    let CgroupMemory {
        limit_bytes,
        current_bytes,
        working_set_bytes,
        peak_bytes,
        swap_bytes,
        file_bytes,
        oom_kills,
        ooms,
        pressure_some_percent,
        pressure_full_percent,
        path: _,
        version: _,
        limit_path: _,
    } = group;
    each([limit_bytes, current_bytes, working_set_bytes], by_s);
    each([peak_bytes, swap_bytes, file_bytes, oom_kills, ooms], by_s);
    each([pressure_some_percent, pressure_full_percent], by_s);
}

fn shared(shm: &mut SharedMemory, by_s: f64) {
    let SharedMemory {
        total_bytes,
        used_bytes,
        free_bytes,
    } = shm;
    each([total_bytes, used_bytes, free_bytes], by_s);
}

fn gpu(gpu: &mut Gpu, by_s: f64) {
    let Gpu {
        total_bytes,
        used_bytes,
        free_bytes,
        utilization_percent,
        temperature_celsius,
        power_watts,
        processes,
        reserved_bytes,
        memory_busy_percent,
        mig,
        index: _,
        name: _,
        uuid: _,
        processes_unknown: _,
        unified: _,
    } = gpu;
    each([total_bytes, used_bytes, free_bytes, reserved_bytes], by_s);
    each(
        [utilization_percent, temperature_celsius, power_watts],
        by_s,
    );
    each([memory_busy_percent], by_s);
    for one in processes {
        let GpuProcess {
            used_bytes,
            pid: _,
            command: _,
            run: _,
            rank: _,
            gpu_instance: _,
        } = one;
        each([used_bytes], by_s);
    }
    for slice in mig {
        let MigDevice {
            total_bytes,
            used_bytes,
            free_bytes,
            reserved_bytes,
            index: _,
            uuid: _,
            gpu_instance: _,
            compute_instance: _,
        } = slice;
        each([total_bytes, used_bytes, free_bytes, reserved_bytes], by_s);
    }
}
