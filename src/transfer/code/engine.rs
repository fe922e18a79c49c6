//! The arithmetic of the erasure code, by the fastest instructions that the processor has.

use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_ORDER, GfElement, ShardsRefMut};

/// All engines give the same fragments.
pub(super) struct Fastest(Box<dyn Engine + Send>);

impl Fastest {
    pub(super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(engine) = super::gfni::Gfni::detect() {
            return Self(Box::new(engine));
        }
        Self(Box::new(DefaultEngine::new()))
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
        self.0.fft(data, pos, size, truncated_size, skew_delta);
    }

    fn ifft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        self.0.ifft(data, pos, size, truncated_size, skew_delta);
    }

    fn mul(&self, columns: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(columns, log_m);
    }

    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated_size: usize) {
        DefaultEngine::eval_poly(erasures, truncated_size);
    }
}
