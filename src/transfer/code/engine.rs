//! The arithmetic of the erasure code, by the fastest instructions that the processor has.

use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_ORDER, GfElement, ShardsRefMut};

#[cfg(target_arch = "x86_64")]
use super::gfni::Gfni;

/// All of them give the same fragments.
pub(super) enum Fastest {
    #[cfg(target_arch = "x86_64")]
    Gfni(Gfni),
    /// The best of the library's.
    Library(DefaultEngine),
}

impl Fastest {
    pub(super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(engine) = Gfni::detect() {
            return Self::Gfni(engine);
        }
        Self::Library(DefaultEngine::new())
    }
}

impl Engine for Fastest {
    fn fft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Gfni(engine) => engine.fft(data, pos, size, truncated_size, skew_delta),
            Self::Library(engine) => engine.fft(data, pos, size, truncated_size, skew_delta),
        }
    }

    fn ifft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Gfni(engine) => engine.ifft(data, pos, size, truncated_size, skew_delta),
            Self::Library(engine) => engine.ifft(data, pos, size, truncated_size, skew_delta),
        }
    }

    fn mul(&self, columns: &mut [[u8; 64]], log_m: GfElement) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Gfni(engine) => engine.mul(columns, log_m),
            Self::Library(engine) => engine.mul(columns, log_m),
        }
    }

    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated_size: usize) {
        DefaultEngine::eval_poly(erasures, truncated_size);
    }
}
