//! Constraints of answers, compiled for the vocabulary of one model.

use std::sync::Arc;

use crate::conversation::OutputRules;
#[cfg(feature = "grammar")]
use crate::conversation::grammar::{CompiledGrammar, GrammarCompiler};
use crate::model::Model;
use crate::{Error, Result};

/// A compiled [`OutputRules`].
#[cfg(feature = "grammar")]
pub type Grammar = Arc<CompiledGrammar>;
/// Without the feature `grammar` there are none.
#[cfg(not(feature = "grammar"))]
pub type Grammar = std::convert::Infallible;

/// The compiler of an engine's grammars, which its handles share.
#[derive(Clone)]
pub struct Grammars {
    #[cfg_attr(not(feature = "grammar"), allow(dead_code))]
    model: Arc<Model>,
    /// `None` before the first grammar.
    #[cfg(feature = "grammar")]
    compiler: Arc<std::sync::Mutex<Option<GrammarCompiler>>>,
}

impl Grammars {
    pub fn new(model: Arc<Model>) -> Self {
        Grammars {
            model,
            #[cfg(feature = "grammar")]
            compiler: Arc::default(),
        }
    }

    /// See [`Engine::compile`](super::Engine::compile).
    #[cfg(feature = "grammar")]
    pub fn compile(&self, rules: &OutputRules) -> Result<Grammar> {
        let mut compiler = self.compiler.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let compiler = match &mut *compiler {
            Some(compiler) => compiler,
            none => none.insert(GrammarCompiler::new(&self.model.tokenizer).map_err(Error::Unsupported)?),
        };
        rules.compile(compiler).map(Arc::new).map_err(Error::Usage)
    }

    #[cfg(not(feature = "grammar"))]
    pub fn compile(&self, _: &OutputRules) -> Result<Grammar> {
        Err(Error::Unsupported("this build cannot constrain answers: it lacks the feature `grammar`".into()))
    }
}
