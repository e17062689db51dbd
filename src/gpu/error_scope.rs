//! The errors of a device between two points of a thread's work.

use std::future::Future;

use super::Gpu;
use crate::{Error, Result};

/// An open error scope: the errors of what this thread asks of the device until it is finished.
pub(crate) struct ErrorScope {
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
}

impl Gpu {
    /// Opens an error scope; [`ErrorScope::finish`] ends it.
    pub(crate) fn error_scope(&self) -> ErrorScope {
        ErrorScope {
            memory: self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory),
            validation: self.device.push_error_scope(wgpu::ErrorFilter::Validation),
            internal: self.device.push_error_scope(wgpu::ErrorFilter::Internal),
        }
    }
}

impl ErrorScope {
    /// Ends the scope, on the thread that opened it. The future resolves to its outcome, and may be awaited anywhere.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device ran out of memory; [`Error::Gpu`] if its driver failed.
    ///
    /// # Panics
    /// If the device reports a validation error: that is a bug of Firelight's.
    pub fn finish(self) -> impl Future<Output = Result<()>> + wgpu::WasmNotSend {
        let (internal, validation, memory) = (self.internal.pop(), self.validation.pop(), self.memory.pop());
        async move {
            if let Some(error) = memory.await {
                return Err(Error::Memory(format!("the GPU has not enough free memory ({error})")));
            }
            if let Some(error) = validation.await {
                panic!("the device refused what Firelight asked of it: {error}");
            }
            if let Some(error) = internal.await {
                return Err(Error::Gpu(format!(
                    "the driver failed ({error}); update it, or choose another GPU with --device"
                )));
            }
            Ok(())
        }
    }
}
