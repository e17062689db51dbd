import { createRoot } from "react-dom/client";
import { useEffect } from "react";
import demo from "firelight/demo";
import { useFirelight } from "./useFirelight.js";

function App() {
  const { status, progress, answer, error, ask } = useFirelight(new URLSearchParams(location.search).get("model") ?? demo);
  useEffect(() => {
    const messages = [{ role: "user", content: "What can you do?" }];
    ask(messages, { temperature: 0, maxTokens: 40 }).then((answer) => {
      if (answer) document.body.dataset.done = "yes";
    });
  }, [ask]);
  if (error) return <p role="alert">{error.message}</p>;
  return (
    <>
      <p>{status === "loading" ? `${Math.round(100 * progress)} %` : status}</p>
      <p id="answer">{answer}</p>
    </>
  );
}

createRoot(document.querySelector("#root")).render(<App />);
