// Extension pages forbid inline scripts, and so import maps.
import { Firelight } from "./node_modules/firelight/index.js";

const [question, ask, selection, answer] = ["question", "ask", "selection", "answer"].map((id) =>
  document.getElementById(id),
);

selection.onclick = async () => {
  const [tab] = await chrome.tabs.query({ active: true, currentWindow: true });
  const [{ result }] = await chrome.scripting.executeScript({
    target: { tabId: tab.id },
    func: () => String(getSelection()),
  });
  question.value += `\n\n${result}`;
};

const model = await Firelight.load();
ask.disabled = false;
ask.onclick = async () => {
  ask.disabled = true;
  answer.textContent = "";
  const messages = [{ role: "user", content: question.value }];
  for await (const text of model.chat(messages, { maxTokens: 300 })) answer.append(text);
  ask.disabled = false;
};
