//! Device handles: numbers in the place of pointers. They stay good over a restart, as an old pointer would not: a client
//! that goes on with one is answered UNINITIALIZED.

use nvml_wrapper_sys::bindings::nvmlDevice_t;

/// A GPU by its place in the script, or a slice by its place in the GPU.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) gpu: u32,
    pub(crate) slice: Option<u32>,
}

impl Handle {
    pub(crate) fn gpu(gpu: u32) -> Self {
        Self { gpu, slice: None }
    }

    pub(crate) fn slice(gpu: u32, slice: u32) -> Self {
        let slice = Some(slice);
        Self { gpu, slice }
    }

    /// None: nothing that was handed out.
    pub(crate) fn of(device: nvmlDevice_t) -> Option<Self> {
        let number = device.addr();
        let gpu = (number & 0xffff).checked_sub(1)? as u32;
        let slice = (number >> 16).checked_sub(1).map(|slice| slice as u32);
        Some(Self { gpu, slice })
    }

    pub(crate) fn device(self) -> nvmlDevice_t {
        let slice = self.slice.map_or(0, |slice| slice as usize + 1);
        std::ptr::without_provenance_mut(slice << 16 | (self.gpu as usize + 1))
    }
}
