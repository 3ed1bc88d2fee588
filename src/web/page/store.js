// What the browser remembers between visits: who is signed in, and for each name the rooms, the
// conversations, the drafts and what was read. Nothing of it is ever part of a URL.

class Store {
  constructor() {
    // Several chats may be at different paths of one host.
    this.prefix = `chat:${location.pathname}:`;
    this.memory = new Map();
  }

  get(key, otherwise) {
    try {
      const text = localStorage.getItem(this.prefix + key);
      return text === null ? (this.memory.get(key) ?? otherwise) : JSON.parse(text);
    } catch {
      return this.memory.get(key) ?? otherwise;
    }
  }

  /** Remembers a value. Without storage, as in some private windows, until the page is closed. */
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(this.prefix + key);
      else localStorage.setItem(this.prefix + key, JSON.stringify(value));
      this.memory.delete(key);
    } catch {
      this.memory.set(key, value);
    }
  }
}
