// The conversation with the loaded model: sends, stops, edits, regenerates, and keeps what was said.

import { $, make, toast } from "./dom.js";
import { Conversation } from "./conversation.js";
import { count, words } from "./format.js";
import { chatOptions, systemPrompt } from "./settings.js";
import { GrowingAnswer, addMessage, addNotice, showMessages } from "./transcript.js";

/** Milliseconds between two writes of an answer that is being written. */
const SAVE = 1000;
/** Parameters below which a model gets simple questions. */
const TINY = 50e6;
const SUGGESTIONS = {
  tiny: ["What can you do?", "What is Firelight?", "Tell me a story about a fox", "What is 2 + 3?"],
  usual: [
    "Explain how rainbows form, in three sentences",
    "Write a Python function that finds prime numbers",
    "Compare tea and coffee in a table",
    "Plan a quiet weekend in a small town",
  ],
};
const ENDS = {
  length: "stopped at Max tokens",
  context: "the conversation is full: start a new chat",
  cancelled: "stopped",
};

export class Chat {
  conversation = new Conversation();
  #store;
  #changed;
  /** The AbortController of the answer that is being written. */
  #running = null;

  /** `store` may be null; `changed` is called when the list of conversations must be drawn again. */
  constructor(store, changed) {
    this.#store = store;
    this.#changed = changed;
    this.model = null;
  }

  get answering() {
    return this.#running !== null;
  }

  stop() {
    this.#running?.abort();
  }

  /** Starts a conversation. It is kept from its first message on. */
  begin() {
    this.open(new Conversation());
  }

  open(conversation) {
    this.stop();
    this.conversation = conversation;
    this.draw();
  }

  /** Adds messages of another tab, and shows them if they continue what is shown. */
  merge(messages) {
    for (const message of messages) this.conversation.messages.set(message.id, message);
    const leaf = this.conversation.messages.get(this.conversation.facts.leaf);
    if (leaf) this.conversation.show(leaf);
    if (!$("log").querySelector(".edit")) this.#show();
  }

  draw() {
    this.#show();
    const last = this.conversation.path().at(-1);
    if (this.model && !last) this.#suggest();
    if (this.model && last?.role === "user") {
      const run = () => this.#run(() => this.#answer(last.id));
      addNotice("This message has no answer.", false, { name: "Answer", run });
    }
    this.#changed();
  }

  #show() {
    showMessages(this.conversation, this.#actions);
    this.#name();
  }

  /** Names the conversation in the address, which a reload opens again, and in the title. */
  #name() {
    const { messages, facts } = this.conversation;
    history.replaceState(null, "", messages.size > 0 ? `#${facts.id}` : location.pathname + location.search);
    document.title = facts.title ? `${facts.title} – Firelight` : "Firelight";
  }

  #suggest() {
    const list = SUGGESTIONS[this.model.info.parameters < TINY ? "tiny" : "usual"];
    const button = (text) => make("button", { type: "button", onclick: () => this.send(text) }, text);
    $("log").replaceChildren(
      make("div", { id: "empty" }, make("h2", {}, "What would you like to know?"), make("div", {}, ...list.map(button))),
    );
  }

  #actions = {
    edit: (message, text) => this.#run(() => this.#ask(text, message.parent)),
    regenerate: (message) => this.#run(() => this.#answer(message.parent)),
    show: (message) => {
      if (this.answering) return;
      this.conversation.show(message);
      this.draw();
      this.#save();
    },
  };

  send(text) {
    return this.#run(() => this.#ask(text, this.conversation.facts.leaf));
  }

  /** Does one thing at a time, and only with a model. */
  async #run(work) {
    if (this.answering) return;
    if (!this.model) return void toast("Load a model first.");
    await work();
  }

  async #save(...messages) {
    // A conversation without messages is not kept.
    if (this.conversation.messages.size === 0) return;
    try {
      await this.#store?.save(this.conversation, ...messages);
    } catch (error) {
      toast(`The browser did not keep this conversation: ${error.message}`);
      this.#store = null;
    }
  }

  async #ask(text, parent) {
    const before = this.conversation.facts.leaf;
    $("empty")?.remove();
    const question = this.conversation.add("user", text, parent);
    if (parent === before) addMessage(this.conversation, question, this.#actions);
    else showMessages(this.conversation, this.#actions);
    this.#name();
    this.#save(question);
    this.#changed();
    if (await this.#answer(question.id)) return;
    // Nothing was answered: the question goes back to where it was typed.
    this.conversation.remove(question);
    this.conversation.facts.leaf = before;
    await this.#store?.drop(this.conversation, question);
    if (this.conversation.messages.size === 0) await this.#store?.remove(this.conversation.id);
    this.draw();
    if (!$("input").value) $("input").value = text;
    $("input").focus();
    $("status").textContent = "Stopped. Your message is back in the box.";
  }

  /** Answers the message `parent`. Resolves to whether it was not stopped before the first word. */
  async #answer(parent) {
    const { conversation, model } = this;
    const before = conversation.facts.leaf;
    conversation.facts.leaf = parent;
    const prompt = conversation.prompt(systemPrompt());
    if (before !== parent) showMessages(conversation, this.#actions);
    const message = Object.assign(conversation.add("assistant", "", parent), { model: model.info.name });
    const shown = new GrowingAnswer(conversation, message, this.#actions);
    const stop = (this.#running = new AbortController());
    const save = () => message.content + (message.reasoning ?? "") && this.#storeOf(conversation, message);
    const timers = [setInterval(save, SAVE)];
    const speed = meter();
    this.#setAnswering(true);
    let failure;
    try {
      const answer = model.chat(prompt, {
        ...chatOptions(),
        signal: stop.signal,
        onToken: speed.count,
        onReasoning: (text) => shown.addReasoning(text),
      });
      for await (const piece of answer) shown.add(piece);
      message.note = noteOf(await answer.stats);
      $("status").textContent = "";
    } catch (error) {
      message.note = "stopped";
      if (!stop.signal.aborted) failure = error;
    }
    timers.forEach(clearInterval);
    speed.end();
    const said = message.content !== "" || Boolean(message.reasoning);
    const ours = this.conversation === conversation;
    if (said) {
      shown.end();
      await this.#storeOf(conversation, message);
    } else {
      shown.remove();
      conversation.remove(message);
      if (before !== parent) conversation.facts.leaf = before;
      if (ours && before !== parent) this.draw();
    }
    if (this.#running === stop) this.#running = null;
    this.#setAnswering(this.answering);
    if (failure && ours) {
      const again = { name: "Try again", run: () => this.#run(() => this.#answer(parent)) };
      addNotice(words(failure), true, this.model ? again : undefined);
    }
    this.#changed();
    return said || Boolean(failure) || before !== parent || !ours;
  }

  #storeOf(conversation, message) {
    if (this.conversation === conversation) return this.#save(message);
    return this.#store?.save(conversation, message).catch(() => {});
  }

  #setAnswering(answering) {
    $("send").hidden = answering;
    $("stop").hidden = !answering;
  }
}

function noteOf(stats) {
  const rate = (stats.generatedTokens - 1) / stats.decodeSeconds;
  const parts = [`${count(stats.generatedTokens)} tokens`];
  if (Number.isFinite(rate) && rate > 0) parts.push(`${rate.toFixed(1)} tokens/s`);
  parts.push(`first after ${stats.promptSeconds.toFixed(2)} s`);
  if (ENDS[stats.finish]) parts.push(ENDS[stats.finish]);
  return parts.join(" · ");
}

/** Shows the speed during an answer: tokens of the last two seconds. */
function meter() {
  const times = [];
  const started = performance.now();
  let total = 0;
  const update = () => {
    const now = performance.now();
    while (times.length > 0 && now - times[0] > 2000) times.shift();
    const seconds = (now - times[0]) / 1000;
    if (times.length > 1 && seconds > 0.2) $("status").textContent = `${((times.length - 1) / seconds).toFixed(1)} tokens/s`;
    else if (total === 0) $("status").textContent = `Reading the prompt… ${((now - started) / 1000).toFixed(0)} s`;
  };
  const timer = setInterval(update, 250);
  const counted = () => {
    total += 1;
    times.push(performance.now());
  };
  return { count: counted, end: () => clearInterval(timer) };
}
