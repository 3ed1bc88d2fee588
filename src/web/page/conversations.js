// The conversations: their messages, what has been read, and their order. This file does not touch
// the page.

/** Lines kept for a conversation that is not open. Older ones are fetched when they are scrolled to. */
const KEPT_LINES = 300;
/** Most lines of any conversation. */
const MOST_LINES = 12000;
/** Most conversations that strangers may open. The messages of further ones are collected in one place. */
const MOST_STRANGERS = 12;
/** Most conversations. Beyond it, the oldest one without unread messages is closed. */
const MOST_CONVERSATIONS = 100;

class Conversation {
  constructor(key, kind, name) {
    this.key = key;
    this.kind = kind; // partner, everyone, room, person or requests
    this.name = name;
    this.items = []; // messages and notes, in the order in which they are shown
    this.byId = new Map();
    this.unread = 0;
    this.mentioned = false;
    this.readId = 0; // the id of the newest message that was read
    this.mark = null; // the first unread item
    this.draft = '';
    this.draftFor = null; // the recipient when the user began the draft
    this.sentTexts = [];
    this.hasOlder = kind !== 'partner' && kind !== 'requests';
    this.isLoading = false;
    this.isStale = false; // messages since the last connection are missing
    this.topic = '';
    this.members = new Set();
    this.isMember = kind !== 'room';
    this.isAnswered = kind !== 'person'; // false for a stranger to whom the user has not written
    this.active = 0; // the order of the last activity
    this.colours = new Colours();
    this.place = null; // where the user was reading
  }

  get label() {
    if (this.kind === 'room') return `#${this.name}`;
    return this.name;
  }

  get newestId() {
    for (let at = this.items.length - 1; at >= 0; at -= 1) if (this.items[at].id) return this.items[at].id;
    return null;
  }

  get oldestId() {
    return this.items.find((item) => item.id)?.id ?? null;
  }

  /**
   * Adds a message. Its identity is the server's id; its place is by id, because messages of the same
   * moment may arrive in another order. Returns `null` if it is there already, otherwise its index.
   */
  add(message) {
    if (message.id && this.byId.has(message.id)) return null;
    if (message.id && message.mine && this.adopt(message)) return null;
    let at = this.items.length;
    if (message.id) {
      const isLater = (item) => (item.id ? item.id > message.id : item.at > message.at && message.old);
      while (at > 0 && isLater(this.items[at - 1])) at -= 1;
      this.byId.set(message.id, message);
    }
    this.items.splice(at, 0, message);
    if (this.items.length > MOST_LINES) this.forget(this.items.length - MOST_LINES);
    return at;
  }

  /** Adds older messages at the beginning, and returns their number. */
  addOlder(messages) {
    // The newest first: a message that was just sent is the newest one with its text.
    const fresh = messages.reverse().filter((message) => !this.byId.has(message.id) && !(message.mine && this.adopt(message)));
    for (const message of fresh) this.byId.set(message.id, message);
    this.items.unshift(...fresh.reverse());
    return fresh.length;
  }

  remove(item) {
    const at = this.items.indexOf(item);
    if (at >= 0) this.items.splice(at, 1);
  }

  /** Finds the user's own message, which was shown when it was sent, in the server's history. It is
   * no message that is older than the one above it, even with the same text. */
  adopt(message) {
    let above = 0;
    const own = this.items.find(
      (item) =>
        (above = item.id || above) < message.id &&
        item.mine &&
        !item.id &&
        !item.note &&
        item.text === message.text &&
        item.me === message.me &&
        item.state !== 'failed',
    );
    if (!own) return false;
    own.id = message.id;
    own.at = message.at;
    if (own.state === 'unsure' || own.state === 'sending') own.state = 'sent';
    this.byId.set(own.id, own);
    own.draw?.();
    return true;
  }

  /** Removes the oldest lines. */
  forget(count) {
    for (const item of this.items.splice(0, count)) if (item.id) this.byId.delete(item.id);
    if (this.kind !== 'partner' && this.kind !== 'requests') this.hasOlder = true;
  }

  clear() {
    this.items = [];
    this.byId.clear();
    this.mark = null;
    this.unread = 0;
  }

  /** Marks all messages as read. Returns whether that changed anything. */
  read() {
    const newest = this.newestId ?? 0;
    const isNew = this.unread > 0 || this.mentioned || newest > this.readId;
    this.unread = 0;
    this.mentioned = false;
    this.readId = Math.max(this.readId, newest);
    return isNew;
  }
}

const urgencyOf = ({ unread, mentioned }) => (unread ? (mentioned ? 0 : 1) : 2);

class Conversations {
  constructor() {
    this.all = new Map();
    this.activity = 0;
  }

  static keyOf(kind, name) {
    return name === undefined ? kind : `${kind}:${name.toLowerCase()}`;
  }

  get(key) {
    return this.all.get(key);
  }

  /** Returns the conversation, which is opened if it does not exist. */
  open(kind, name) {
    const key = Conversations.keyOf(kind, name);
    let found = this.all.get(key);
    if (!found) {
      const names = { partner: 'Partner', everyone: 'Everyone', requests: 'Other people' };
      found = new Conversation(key, kind, name ?? names[kind]);
      this.all.set(key, found);
      this.touch(found);
      this.makeRoom(found);
    }
    return found;
  }

  touch(conversation) {
    this.activity += 1;
    conversation.active = this.activity;
  }

  /** Returns the conversation for a direct message of `name`, which may be a stranger's first one. */
  forPerson(name) {
    const found = this.all.get(Conversations.keyOf('person', name));
    if (found) return found;
    const strangers = [...this.all.values()].filter((there) => there.kind === 'person' && !there.isAnswered);
    return strangers.length < MOST_STRANGERS ? this.open('person', name) : this.open('requests');
  }

  makeRoom(kept) {
    if (this.all.size <= MOST_CONVERSATIONS) return;
    const closable = [...this.all.values()].filter(
      (there) => there.kind === 'person' && there !== kept && !there.unread && !there.draft,
    );
    closable.sort((a, b) => a.active - b.active);
    if (closable.length) this.all.delete(closable[0].key);
  }

  close(key) {
    this.all.delete(key);
  }

  /** The conversations in the sidebar's order: first those that mention the user, then other unread ones. */
  sorted() {
    const kinds = ['room', 'everyone', 'person', 'requests', 'partner'];
    // A conversation stays in its place while it is the chosen one.
    const urgency = (there) => there.kept ?? urgencyOf(there);
    return [...this.all.values()].sort(
      (a, b) =>
        urgency(a) - urgency(b) ||
        kinds.indexOf(a.kind) - kinds.indexOf(b.kind) ||
        (a.kind === 'person' ? b.active - a.active : a.name.localeCompare(b.name)),
    );
  }

  get unread() {
    let all = 0;
    for (const there of this.all.values()) all += there.unread;
    return all;
  }
}
