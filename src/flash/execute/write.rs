//! Writing the plan: in batches, and one block at a time where a batch failed.

use super::{BATCH_BYTES_MAX, BLOCK_ATTEMPTS_MAX, Execution, State, put};
use crate::flash::block::rewrite;
use crate::flash::{Flash, FlashError, Statistics};

impl Execution {
    pub(super) fn write_batch(
        &mut self,
        first: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        let operations = self.work.plan.operations();
        let batch = &operations[first..self.work.plan.stage_end(first)];
        let span = self.work.placement.span(batch.iter().map(|next| next.block), BATCH_BYTES_MAX);
        let after = first + span.blocks.len();
        let blocks: Vec<_> = operations[first..after]
            .iter()
            .map(|operation| (self.work.placement.block(operation.block), &operation.change))
            .collect();
        self.touched = self.touched.max(after);
        operations[first..after].iter().for_each(|next| self.is_touched[next.block] = true);
        let contents = &self.work.plan.target()[span.image];
        self.state = match rewrite(flash, &blocks, contents, statistics) {
            Ok(()) => State::Writing { operation: after, attempts: 0, singly: 0 },
            Err(_) => State::Writing { operation: first, attempts: 1, singly: after },
        };
    }

    /// What a block of a failed batch holds is unknown: the planned change may no longer be enough.
    pub(super) fn write_again(
        &mut self,
        operation: usize,
        attempts: u32,
        singly: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        let nth = self.work.plan.operations()[operation].block;
        let block = self.work.placement.block(nth);
        let contents = &self.work.plan.target()[self.work.placement.range(nth)];
        match put(flash, block, contents, statistics) {
            Ok(()) => {
                self.state = State::Writing { operation: operation + 1, attempts: 1, singly };
            }
            Err(_) if attempts + 1 < BLOCK_ATTEMPTS_MAX => {
                self.state = State::Writing { operation, attempts: attempts + 1, singly };
            }
            Err(source) => {
                let offset_bytes = block.offset_bytes();
                let attempts = BLOCK_ATTEMPTS_MAX;
                self.fail(FlashError::Block { offset_bytes, attempts, source });
            }
        }
    }
}
