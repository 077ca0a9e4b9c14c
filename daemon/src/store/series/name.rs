//! What there is a series of, in the words of the wire and of the journal.

/// Whose a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine's.
    Host,
    /// A rank's.
    Rank,
    /// A GPU's.
    Gpu,
}

/// One number that is kept over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// MemTotal.
    HostTotal,
    /// As psutil has it.
    HostAvailable,
    /// As psutil has it.
    HostUsed,
    /// SwapTotal - SwapFree.
    SwapUsed,
    /// /dev/shm as the daemon sees it.
    HostShmUsed,
    /// Of the main process.
    ProcessRss,
    /// Of all below it; what they share counts in each.
    ChildrenRss,
    /// Of the data loader's workers.
    WorkersPss,
    /// Of it and all below it: every page once.
    TreePss,
    /// current - inactive_file of the cgroup that binds it.
    CgroupWorkingSet,
    /// What is charged to that group.
    CgroupCurrent,
    /// Infinite: no limit.
    CgroupLimit,
    /// /dev/shm as the trainer sees it.
    ShmUsed,
    /// In live tensors.
    CudaAllocated,
    /// Taken from the device by the framework.
    CudaReserved,
    /// Device memory.
    GpuTotal,
    /// In use by anybody.
    GpuUsed,
    /// Share of time that a kernel ran.
    GpuBusy,
}

impl Name {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::HostTotal,
        Self::HostAvailable,
        Self::HostUsed,
        Self::SwapUsed,
        Self::HostShmUsed,
        Self::ProcessRss,
        Self::ChildrenRss,
        Self::WorkersPss,
        Self::TreePss,
        Self::CgroupWorkingSet,
        Self::CgroupCurrent,
        Self::CgroupLimit,
        Self::ShmUsed,
        Self::CudaAllocated,
        Self::CudaReserved,
        Self::GpuTotal,
        Self::GpuUsed,
        Self::GpuBusy,
    ];

    /// On the wire and in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::HostTotal => "host_total_bytes",
            Self::HostAvailable => "host_available_bytes",
            Self::HostUsed => "host_used_bytes",
            Self::SwapUsed => "swap_used_bytes",
            Self::HostShmUsed => "host_shm_used_bytes",
            Self::ProcessRss => "process_rss_bytes",
            Self::ChildrenRss => "children_rss_bytes",
            Self::WorkersPss => "workers_pss_bytes",
            Self::TreePss => "tree_pss_bytes",
            Self::CgroupWorkingSet => "cgroup_working_set_bytes",
            Self::CgroupCurrent => "cgroup_current_bytes",
            Self::CgroupLimit => "cgroup_limit_bytes",
            Self::ShmUsed => "shm_used_bytes",
            Self::CudaAllocated => "cuda_allocated_bytes",
            Self::CudaReserved => "cuda_reserved_bytes",
            Self::GpuTotal => "gpu_total_bytes",
            Self::GpuUsed => "gpu_used_bytes",
            Self::GpuBusy => "gpu_busy_percent",
        }
    }

    /// Back again.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }

    /// "bytes" or "percent".
    pub fn unit(self) -> &'static str {
        match self {
            Self::GpuBusy => "percent",
            _ => "bytes",
        }
    }

    /// Whose it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::HostTotal
            | Self::HostAvailable
            | Self::HostUsed
            | Self::SwapUsed
            | Self::HostShmUsed => Kind::Host,
            Self::GpuTotal | Self::GpuUsed | Self::GpuBusy => Kind::Gpu,
            _ => Kind::Rank,
        }
    }

    /// It is kept ten times a second too.
    pub(super) fn is_fine(self) -> bool {
        matches!(
            self,
            Self::HostAvailable | Self::HostUsed | Self::ProcessRss
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_one_name() {
        for name in Name::ALL {
            assert_eq!(Name::of(name.word()), Some(name));
            assert!(name.word().ends_with(name.unit()), "{}", name.word());
        }
        assert_eq!(Name::of("host_used"), None);
    }
}
