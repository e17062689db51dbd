// Keeps conversations in IndexedDB. Each message is a record, so two tabs never overwrite each other's messages; tabs
// tell each other what they have changed.

const NAME = "firelight";

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("conversations", { keyPath: "id" });
    const messages = request.result.createObjectStore("messages", { keyPath: "id" });
    messages.createIndex("conversation", "conversation");
  };
  return done(request);
}

export class Store {
  #database;
  #channel = new BroadcastChannel("firelight-conversations");

  /** Rejects if the browser keeps nothing here. */
  static async open() {
    const store = new Store();
    store.#database = await open();
    store.#database.onversionchange = () => store.#database.close();
    return store;
  }

  /** Calls `listener` with the id of a conversation that another tab has changed. */
  onChange(listener) {
    this.#channel.onmessage = ({ data }) => listener(data);
  }

  /** Runs `work` with the two object stores, and waits until what it does is on disk. */
  #change(id, work) {
    const transaction = this.#database.transaction(["conversations", "messages"], "readwrite");
    work(transaction.objectStore("conversations"), transaction.objectStore("messages"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => {
        this.#channel.postMessage(id);
        resolve();
      };
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  /** The facts of all conversations, the last changed first. */
  async list() {
    const all = await done(this.#database.transaction("conversations").objectStore("conversations").getAll());
    return all.sort((a, b) => b.updated - a.updated);
  }

  /** A conversation's facts and messages; undefined if it is not there. */
  async load(id) {
    const transaction = this.#database.transaction(["conversations", "messages"]);
    const facts = done(transaction.objectStore("conversations").get(id));
    const messages = done(transaction.objectStore("messages").index("conversation").getAll(id));
    return (await facts) && { facts: await facts, messages: await messages };
  }

  /** Writes facts and some messages. */
  save({ facts }, ...messages) {
    return this.#change(facts.id, (conversations, all) => {
      conversations.put(facts);
      for (const message of messages) all.put(message);
    });
  }

  /** Deletes messages. */
  drop({ facts }, ...messages) {
    return this.#change(facts.id, (conversations, all) => {
      conversations.put(facts);
      for (const message of messages) all.delete(message.id);
    });
  }

  /** Deletes a conversation. Returns what `restore` takes. */
  async remove(id) {
    const kept = await this.load(id);
    await this.#change(id, (conversations, all) => {
      conversations.delete(id);
      for (const message of kept?.messages ?? []) all.delete(message.id);
    });
    return kept;
  }

  restore({ facts, messages }) {
    return this.save({ facts }, ...messages);
  }
}
