//! Setters of option structs. Outside the crate a `#[non_exhaustive]` struct cannot be written as a literal, so its
//! options are set one after another: `SessionOptions::default().context(4096).sequences(8)`.

/// Defines a setter for each of a struct's public fields. The type is that of the setter's argument, which becomes the
/// field's: `impl Into<Option<u32>>` takes a number as well as an option.
macro_rules! setters {
    ($options:ident { $($field:ident: $argument:ty),* $(,)? }) => {
        impl $options {
            $(
                /// Sets the field of this name.
                #[must_use]
                pub fn $field(mut self, $field: $argument) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}
pub(crate) use setters;
