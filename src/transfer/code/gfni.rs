//! The transforms of the erasure code with GFNI and AVX-512: servers' processors since Ice Lake and
//! Zen 4.
//!
//! Multiplication by an element of GF(2^16) is a matrix of 16 x 16 bits, four of 8 x 8, of which
//! `gf2p8affineqb` multiplies one by 64 bytes at once. A column of a fragment is 64 bytes, the low
//! halves of 32 elements before their high halves. The layers of the transforms are those of the
//! library's engines (S.-J. Lin, W.-H. Chung, Y. S. Han: Novel Polynomial Basis and Its Application
//! to Reed-Solomon Erasure Codes, 2014), two of them at a time.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm256_load_si256, _mm256_xor_si256, _mm512_castsi256_si512,
    _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_permutexvar_epi64, _mm512_set_epi64,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
};
use std::ops::Range;
use std::sync::LazyLock;

use reed_solomon_simd::engine::tables::{self, ExpLog, Skew};
use reed_solomon_simd::engine::{
    DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut,
};

type Column = [u8; 64];

/// Layers within so many fragments are done together, while these are in the cache.
const CACHED_FRAGMENTS: usize = 1024;

/// For `_mm512_ternarylogic_epi64`: the sum of three.
const XOR_OF_THREE: i32 = 0x96;

/// For `_mm512_shuffle_i64x2`: the halves change places.
const SWAPPED_HALVES: i32 = 0b01_00_11_10;

/// There is one only where the processor has what it uses.
pub(super) struct Gfni(&'static Tables);

struct Tables {
    exp: &'static [GfElement; GF_ORDER],
    skew: &'static Skew,
    /// Of an element's four digits of 4 bits, the lowest first. Matrices of elements are added as
    /// the elements are.
    digits: [[Matrices; 16]; 4],
}

/// What makes the low half of a product of the low half of a factor, the high half of the high
/// half, the low half of the high half, the high half of the low half.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Matrices([u64; 4]);

impl Gfni {
    pub(super) fn detect() -> Option<Self> {
        static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);
        let is_here = is_x86_feature_detected!("gfni")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        is_here.then(|| Self(&TABLES))
    }
}

impl Engine for Gfni {
    fn fft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        // SAFETY: the processor has these features, else there would be no `self`.
        unsafe { Transform { tables: self.0, data, pos, skew_delta }.fft(size, truncated_size) }
    }

    fn ifft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        // SAFETY: the processor has these features, else there would be no `self`.
        unsafe { Transform { tables: self.0, data, pos, skew_delta }.ifft(size, truncated_size) }
    }

    fn mul(&self, columns: &mut [Column], log_m: GfElement) {
        // SAFETY: the processor has these features, else there would be no `self`.
        unsafe { multiply(self.0, columns, log_m) }
    }

    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated_size: usize) {
        DefaultEngine::eval_poly(erasures, truncated_size);
    }
}

impl Tables {
    fn new() -> Self {
        let logarithms = tables::get_exp_log();
        let mut digits = [[Matrices::default(); 16]; 4];
        for (place, of_place) in digits.iter_mut().enumerate() {
            for digit in 1..of_place.len() {
                let lowest = digit & digit.wrapping_neg();
                let (rest, bit) = match digit ^ lowest {
                    0 => (0, Matrices::new(logarithms, (lowest << (4 * place)) as GfElement)),
                    rest => (rest, of_place[lowest]),
                };
                let sum = |nth: usize| of_place[rest].0[nth] ^ bit.0[nth];
                of_place[digit] = Matrices(std::array::from_fn(sum));
            }
        }
        Self { exp: &logarithms.exp, skew: tables::get_skew(), digits }
    }

    /// The element that the library's tables of logarithms have at `index`; they have
    /// [`GF_MODULUS`] for 0.
    fn skew(&self, index: usize) -> GfElement {
        match self.skew[index] {
            GF_MODULUS => 0,
            log => self.exp[usize::from(log)],
        }
    }
}

impl Matrices {
    fn new(ExpLog { exp, log }: &ExpLog, element: GfElement) -> Self {
        let log_m = log[usize::from(element)];
        let products: [GfElement; 16] =
            std::array::from_fn(|bit| tables::mul(1 << bit, log_m, exp, log));
        // Row 0 is the highest byte; the lowest bit of a row belongs to the lowest bit of a factor.
        let matrix = |product_bit: usize, factor_bit: usize| {
            let mut matrix = 0;
            for row in 0..8 {
                for column in 0..8 {
                    let bit = products[factor_bit + column] >> (product_bit + row) & 1;
                    matrix |= u64::from(bit) << (8 * (7 - row) + column);
                }
            }
            matrix
        };
        Self([matrix(0, 0), matrix(8, 8), matrix(0, 8), matrix(8, 0)])
    }
}

/// A factor, ready for columns.
#[derive(Clone, Copy)]
struct Factor {
    same_half: __m512i,
    other_half: __m512i,
}

impl Factor {
    #[inline]
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn new(tables: &Tables, element: GfElement) -> Self {
        let digit = |place: usize| {
            let matrices = &tables.digits[place][usize::from(element) >> (4 * place) & 15];
            // SAFETY: these are the 32 bytes that are read, and their alignment is 32.
            unsafe { _mm256_load_si256((&raw const matrices.0).cast()) }
        };
        let low = _mm256_xor_si256(digit(0), digit(1));
        let matrices =
            _mm512_castsi256_si512(_mm256_xor_si256(low, _mm256_xor_si256(digit(2), digit(3))));
        Self {
            same_half: _mm512_permutexvar_epi64(_mm512_set_epi64(1, 1, 1, 1, 0, 0, 0, 0), matrices),
            other_half: _mm512_permutexvar_epi64(
                _mm512_set_epi64(3, 3, 3, 3, 2, 2, 2, 2),
                matrices,
            ),
        }
    }

    /// `sum` and the product.
    #[inline]
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn multiply_add(self, sum: __m512i, column: __m512i) -> __m512i {
        let swapped = _mm512_shuffle_i64x2::<SWAPPED_HALVES>(column, column);
        _mm512_ternarylogic_epi64::<XOR_OF_THREE>(
            sum,
            _mm512_gf2p8affine_epi64_epi8::<0>(column, self.same_half),
            _mm512_gf2p8affine_epi64_epi8::<0>(swapped, self.other_half),
        )
    }
}

#[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
fn multiply(tables: &Tables, columns: &mut [Column], log_m: GfElement) {
    let factor = Factor::new(tables, tables.exp[usize::from(log_m)]);
    let zero = load(&[0; 64]);
    for column in columns {
        store(column, factor.multiply_add(zero, load(column)));
    }
}

/// A transform of the fragments from `pos` on.
struct Transform<'a, 'b> {
    tables: &'static Tables,
    data: &'a mut ShardsRefMut<'b>,
    pos: usize,
    skew_delta: usize,
}

impl Transform<'_, '_> {
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn fft(&mut self, size: usize, truncated_size: usize) {
        let cached = self.fft_layers(0..truncated_size, size, CACHED_FRAGMENTS);
        for first in (0..truncated_size).step_by(cached) {
            let part = first..truncated_size.min(first + cached);
            if self.fft_layers(part.clone(), cached, 1) == 2 {
                part.step_by(2).for_each(|first| self.fft_layer(first, 1));
            }
        }
    }

    /// Layers of groups of `size` fragments and less, two at a time, while there are two and groups
    /// are larger than `until`. Returns the size of the next layer's groups.
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn fft_layers(&mut self, part: Range<usize>, mut size: usize, until: usize) -> usize {
        while size > until && size >= 4 {
            let distance = size / 4;
            for first in part.clone().step_by(size) {
                let [low, both, high] = self.factors(first, distance);
                for nth in first..first + distance {
                    let (a, b, c, d) = self.data.dist4_mut(self.pos + nth, distance);
                    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                        let (a0, b0, c0, d0) = (load(a), load(b), load(c), load(d));
                        let a1 = both.multiply_add(a0, c0);
                        let c1 = _mm512_xor_si512(c0, a1);
                        let b1 = both.multiply_add(b0, d0);
                        let d1 = _mm512_xor_si512(d0, b1);
                        let a2 = low.multiply_add(a1, b1);
                        let c2 = high.multiply_add(c1, d1);
                        store(a, a2);
                        store(b, _mm512_xor_si512(b1, a2));
                        store(c, c2);
                        store(d, _mm512_xor_si512(d1, c2));
                    }
                }
            }
            size = distance;
        }
        size
    }

    /// One group of one layer.
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn fft_layer(&mut self, first: usize, distance: usize) {
        let factor = self.factor(first + distance);
        for nth in first..first + distance {
            let (a, b) = self.data.dist2_mut(self.pos + nth, distance);
            for (a, b) in a.iter_mut().zip(b) {
                let b0 = load(b);
                let a1 = factor.multiply_add(load(a), b0);
                store(a, a1);
                store(b, _mm512_xor_si512(b0, a1));
            }
        }
    }

    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn ifft(&mut self, size: usize, truncated_size: usize) {
        let (cached, mut distance) = (size.min(CACHED_FRAGMENTS), 1);
        for first in (0..truncated_size).step_by(cached) {
            distance = self.ifft_layers(first..truncated_size.min(first + cached), 1, cached);
        }
        distance = self.ifft_layers(0..truncated_size, distance, size);
        if distance < size {
            self.ifft_layer(0, distance);
        }
    }

    /// Layers from the one of this distance on, two at a time, in groups of up to `size` fragments.
    /// Returns the distance of the next layer.
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn ifft_layers(&mut self, part: Range<usize>, mut distance: usize, size: usize) -> usize {
        while distance * 4 <= size {
            for first in part.clone().step_by(distance * 4) {
                let [low, both, high] = self.factors(first, distance);
                for nth in first..first + distance {
                    let (a, b, c, d) = self.data.dist4_mut(self.pos + nth, distance);
                    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                        let (a0, b0, c0, d0) = (load(a), load(b), load(c), load(d));
                        let b1 = _mm512_xor_si512(b0, a0);
                        let a1 = low.multiply_add(a0, b1);
                        let d1 = _mm512_xor_si512(d0, c0);
                        let c1 = high.multiply_add(c0, d1);
                        let c2 = _mm512_xor_si512(c1, a1);
                        let d2 = _mm512_xor_si512(d1, b1);
                        store(a, both.multiply_add(a1, c2));
                        store(b, both.multiply_add(b1, d2));
                        store(c, c2);
                        store(d, d2);
                    }
                }
            }
            distance *= 4;
        }
        distance
    }

    /// One group of one layer.
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn ifft_layer(&mut self, first: usize, distance: usize) {
        let factor = self.factor(first + distance);
        for nth in first..first + distance {
            let (a, b) = self.data.dist2_mut(self.pos + nth, distance);
            for (a, b) in a.iter_mut().zip(b) {
                let a0 = load(a);
                let b1 = _mm512_xor_si512(load(b), a0);
                store(a, factor.multiply_add(a0, b1));
                store(b, b1);
            }
        }
    }

    /// Of two layers: of the lower half of the group at `first`, of the whole, of the upper half.
    #[inline]
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn factors(&self, first: usize, distance: usize) -> [Factor; 3] {
        let base = first + distance;
        [self.factor(base), self.factor(base + distance), self.factor(base + 2 * distance)]
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl")]
    fn factor(&self, middle: usize) -> Factor {
        Factor::new(self.tables, self.tables.skew(middle + self.skew_delta - 1))
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(column: &Column) -> __m512i {
    // SAFETY: these are the 64 bytes that are read, which may lie anywhere.
    unsafe { _mm512_loadu_si512(column.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(column: &mut Column, value: __m512i) {
    // SAFETY: these are the 64 bytes that are written, which may lie anywhere.
    unsafe { _mm512_storeu_si512(column.as_mut_ptr().cast(), value) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use reed_solomon_simd::engine::NoSimd;

    /// Fragments of random columns, zero from `truncated_size` on.
    fn random_fragments(
        size: usize,
        truncated_size: usize,
        columns: usize,
        seed: u64,
    ) -> Vec<Column> {
        let mut state = seed | 1;
        let mut fragments = vec![[0; 64]; size * columns];
        for byte in fragments[..truncated_size * columns].iter_mut().flatten() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        fragments
    }

    /// Whether a transform of `size` fragments behind `pos` others, and a product, are those of the
    /// library's plain engine. Nothing to compare where the processor has no GFNI.
    fn is_right(
        size: usize,
        share: usize,
        columns: usize,
        pos: usize,
        skew_delta: usize,
        seed: u64,
    ) -> bool {
        type Step<'a> = &'a dyn Fn(&dyn Engine, &mut ShardsRefMut<'_>);
        let Some(engine) = Gfni::detect() else { return true };
        let truncated_size = (size * share).div_ceil(16);
        let mut before = random_fragments(pos, pos, columns, !seed);
        before.extend(random_fragments(size, truncated_size, columns, seed));
        let valid = ..(pos + truncated_size) * columns;
        let reference = NoSimd::new();
        let steps: [Step<'_>; 2] = [
            &|engine, data| engine.fft(data, pos, size, truncated_size, skew_delta),
            &|engine, data| engine.ifft(data, pos, size, truncated_size, skew_delta),
        ];
        let transforms = steps.iter().all(|step| {
            let (mut got, mut expected) = (before.clone(), before.clone());
            step(&engine, &mut ShardsRefMut::new(pos + size, columns, &mut got));
            step(&reference, &mut ShardsRefMut::new(pos + size, columns, &mut expected));
            got[valid] == expected[valid]
        });
        let (mut got, mut expected) = (before.clone(), before);
        engine.mul(&mut got, seed as GfElement);
        reference.mul(&mut expected, seed as GfElement);
        transforms && got == expected
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_step_is_that_of_the_library(
            bits in 0u32..13,
            columns in 1usize..4,
            share in 1usize..=16,
            pos in 0usize..3,
            delta in 0usize..4,
            seed: u64,
        ) {
            prop_assert!(is_right(1 << bits, share, columns, pos, delta << bits, seed));
        }
    }

    #[test]
    fn each_step_is_that_of_the_library_in_the_largest_blocks() {
        for bits in 13..16 {
            assert!(is_right(1 << bits, 11, 1, 0, 1 << bits, 7), "2^{bits} fragments");
        }
        assert!(is_right(1 << 16, 11, 1, 0, 0, 7), "2^16 fragments");
    }
}
