import { useCallback, useEffect, useRef, useState } from "react";
import { Firelight } from "firelight";

/** Loads a model once for a component, and answers questions. `options` are passed to `Firelight.load`. */
export function useFirelight(source, options) {
  const loading = useRef(null);
  const [state, setState] = useState({ status: "loading", progress: 0, answer: "", error: null });
  const update = useCallback((change) => setState((state) => ({ ...state, ...change })), []);

  useEffect(() => {
    const abort = new AbortController();
    const onProgress = ({ loaded, total }) => update({ progress: loaded / total });
    const model = Firelight.load(source, { onProgress, signal: abort.signal, ...options });
    loading.current = model;
    model.then(
      () => update({ status: "ready" }),
      (error) => abort.signal.aborted || update({ status: "failed", error }),
    );
    return () => {
      abort.abort();
      model.then((model) => model.destroy()).catch(() => {});
    };
  }, [source]);

  const ask = useCallback(async (messages, options) => {
    update({ status: "answering", answer: "" });
    try {
      const model = await loading.current;
      let answer = "";
      for await (const text of model.chat(messages, options)) update({ answer: (answer += text) });
      update({ status: "ready" });
      return answer;
    } catch (error) {
      update({ status: "failed", error });
    }
  }, []);

  return { ...state, ask };
}
