//! [`Send`] and [`Sync`] natively. In browsers, whose objects stay on their thread, no type needs to be either.

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::future::Future;
    use std::pin::Pin;

    pub use std::marker::{Send as MaybeSend, Sync as MaybeSync};

    /// A boxed future, which natively may move to another thread.
    pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
    /// A boxed function, which natively several threads may call.
    pub type BoxFn<A, T> = Box<dyn Fn(A) -> T + Send + Sync>;
    /// A boxed function with a state, which natively may move to another thread.
    pub type BoxFnMut<'a, A, T> = Box<dyn FnMut(A) -> T + Send + 'a>;
    /// The same of a borrowed argument.
    pub type BoxFnMutRef<A, T> = Box<dyn FnMut(&A) -> T + Send>;
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use std::future::Future;
    use std::pin::Pin;

    /// Every type.
    pub trait MaybeSend {}
    impl<T: ?Sized> MaybeSend for T {}
    /// Every type.
    pub trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}

    /// A boxed future.
    pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
    /// A boxed function.
    pub type BoxFn<A, T> = Box<dyn Fn(A) -> T>;
    /// A boxed function with a state.
    pub type BoxFnMut<'a, A, T> = Box<dyn FnMut(A) -> T + 'a>;
    /// The same of a borrowed argument.
    pub type BoxFnMutRef<A, T> = Box<dyn FnMut(&A) -> T>;
}

pub use platform::{BoxFn, BoxFnMut, BoxFnMutRef, BoxFuture, MaybeSend, MaybeSync};
