//! How a session is opened.

use super::{Session, SessionOptions};
use crate::Result;
use crate::gpu::Gpu;
use crate::model::Model;
use crate::model::load::Progress;
use crate::send::{BoxFnMut, MaybeSend};

/// Opens a [`Session`]; from [`Session::builder`].
#[must_use = "a session is opened by `load`"]
pub struct SessionBuilder<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) model: &'a Model,
    pub(super) options: SessionOptions,
    pub(super) on_progress: BoxFnMut<'a, Progress, ()>,
}

impl<'a> SessionBuilder<'a> {
    /// All options at once.
    pub fn options(mut self, options: &SessionOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// See [`SessionOptions::context`].
    pub fn context(mut self, positions: u32) -> Self {
        self.options.context = Some(positions);
        self
    }

    /// See [`SessionOptions::sequences`].
    pub fn sequences(mut self, sequences: u32) -> Self {
        self.options.sequences = sequences;
        self
    }

    /// Calls `report` as bytes of the weights are read.
    pub fn on_progress(mut self, report: impl FnMut(Progress) + MaybeSend + 'a) -> Self {
        self.on_progress = Box::new(report);
        self
    }

    /// Compiles the model for the device and loads its weights.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`](crate::Error::DoesNotFit) if the model does not fit the device, with what would help;
    /// [`Error::Memory`](crate::Error::Memory) if only the device's driver finds that out; errors of reading and of the
    /// device.
    pub async fn load(self) -> Result<Session> {
        Session::load(self).await
    }
}
