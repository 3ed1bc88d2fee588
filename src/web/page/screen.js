// The screen: the conversations, each with a tab and a log. All text from the network becomes text
// nodes, never markup.

const $ = (id) => document.getElementById(id);
const MOST_LINES = 1000;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Turns the URLs in a text into links. */
function linked(text) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(/https?:\/\/[^\s<>"'`\u0000-\u0020]+/gi)) {
    // Punctuation at the end belongs to the sentence, not to the URL.
    const address = found[0].replace(/[.,;:!?)\]}]+$/, '');
    let url;
    try { url = new URL(address); } catch { continue; }
    if (!['http:', 'https:'].includes(url.protocol)) continue;
    parts.append(text.slice(end, found.index));
    const link = element('a', '', address);
    link.href = url.href;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    parts.append(link);
    end = found.index + address.length;
  }
  parts.append(text.slice(end));
  return parts;
}

/** Returns a hue for a name, the same for all users. Light and dark pages use it differently. */
function hue(name) {
  let sum = 7;
  for (const letter of name.toLowerCase()) sum = (sum * 31 + letter.codePointAt(0)) % 3600;
  return sum / 10;
}

class Conversation {
  constructor(key, label, screen) {
    this.key = key;
    this.screen = screen;
    this.unread = 0;
    this.lastDay = '';
    this.newest = null;      // time of the newest message, to skip repeated old ones
    this.mark = null;
    const number = screen.made += 1;
    this.log = element('ol', 'log');
    this.log.id = `log-${number}`;
    this.log.setAttribute('role', 'log');
    this.log.setAttribute('aria-live', 'polite');
    this.log.tabIndex = 0;
    this.log.hidden = true;
    this.log.addEventListener('scroll', () => screen.scrolled(this), { passive: true });
    this.tab = element('button');
    this.tab.type = 'button';
    this.tab.id = `tab-${number}`;
    this.tab.setAttribute('role', 'tab');
    this.tab.setAttribute('aria-controls', this.log.id);
    this.tab.addEventListener('click', () => screen.choose(key));
    this.log.setAttribute('aria-labelledby', this.tab.id);
    this.label(label);
  }

  label(label) {
    this.name = label;
    this.draw();
  }

  draw() {
    this.tab.replaceChildren(document.createTextNode(shown(this.name)));
    if (this.unread) {
      const count = element('span', 'count', this.unread);
      count.append(element('span', '', ''));
      this.tab.append(count);
    }
    this.tab.setAttribute('aria-label', this.unread ? `${this.name}, ${this.unread} unread` : this.name);
  }

  get isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
  }

  /** Appends a line. Earlier lines are not touched, so a screen reader reads each line once. */
  append(line, when, counts) {
    const isSeen = this.screen.isSeen(this);
    const stays = this.isAtEnd || this.log.hidden;
    const day = when.toLocaleDateString(undefined, { weekday: 'long', year: 'numeric', month: 'long', day: 'numeric' });
    if (day !== this.lastDay) {
      this.lastDay = day;
      this.log.append(element('li', 'day', day));
    }
    if (counts && !isSeen) {
      if (!this.mark) {
        this.mark = element('li', 'unread', 'new');
        this.log.append(this.mark);
      }
      this.unread += 1;
      this.draw();
      this.screen.count();
    }
    this.log.append(line);
    while (this.log.children.length > MOST_LINES) this.log.firstElementChild.remove();
    if (stays) this.log.scrollTop = this.log.scrollHeight;
    this.screen.showMore(this);
  }

  /** Marks all lines as read. */
  seen() {
    if (!this.unread) return;
    this.unread = 0;
    this.draw();
    this.screen.count();
  }
}

class Screen {
  constructor() {
    this.made = 0;
    this.conversations = new Map();
    this.chosen = null;
    document.addEventListener('visibilitychange', () => this.scrolled(this.chosen));
    $('more').addEventListener('click', () => {
      const { log } = this.chosen;
      log.scrollTop = log.scrollHeight;
      this.scrolled(this.chosen);
    });
    $('tabs').addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const all = [...this.conversations.values()];
      const next = all[(all.indexOf(this.chosen) + step + all.length) % all.length];
      this.choose(next.key);
      next.tab.focus();
    });
  }

  conversation(key, label) {
    let found = this.conversations.get(key);
    if (!found) {
      found = new Conversation(key, label, this);
      this.conversations.set(key, found);
      $('tabs').append(found.tab);
      $('logs').append(found.log);
      if (!this.chosen) this.choose(key);
      else this.drawTabs();
    }
    return found;
  }

  choose(key) {
    const next = this.conversations.get(key);
    if (!next) return;
    if (this.chosen && this.chosen !== next) {
      // Remove the mark for new lines once they have been read.
      if (this.chosen.mark && !this.chosen.unread) { this.chosen.mark.remove(); this.chosen.mark = null; }
      this.chosen.place = this.chosen.isAtEnd ? null : this.chosen.log.scrollTop;
    }
    this.chosen = next;
    for (const there of this.conversations.values()) there.log.hidden = there !== next;
    if (next.mark && next.unread) next.mark.scrollIntoView({ block: 'center' });
    else next.log.scrollTop = next.place ?? next.log.scrollHeight;
    this.drawTabs();
    this.scrolled(next);
    if (this.onchoose) this.onchoose(next);
  }

  drawTabs() {
    for (const there of this.conversations.values()) {
      there.tab.setAttribute('aria-selected', there === this.chosen);
      there.tab.tabIndex = there === this.chosen ? 0 : -1;
    }
  }

  remove(key) {
    const there = this.conversations.get(key);
    if (!there) return;
    there.tab.remove();
    there.log.remove();
    this.conversations.delete(key);
    if (this.chosen === there) this.choose(this.conversations.keys().next().value);
    this.count();
  }

  isSeen(conversation) {
    return conversation === this.chosen && document.visibilityState === 'visible' && conversation.isAtEnd;
  }

  scrolled(conversation) {
    if (conversation && this.isSeen(conversation)) conversation.seen();
    if (conversation) this.showMore(conversation);
  }

  showMore(conversation) {
    if (conversation !== this.chosen) return;
    const more = $('more');
    more.hidden = conversation.isAtEnd;
    more.textContent = conversation.unread ? `${conversation.unread} new below` : 'Jump to the newest';
  }

  count() {
    let all = 0;
    for (const there of this.conversations.values()) all += there.unread;
    document.title = (all ? `(${all}) ` : '') + 'Chat';
  }

  // --- lines

  /** Shows a message. Returns a function that shows its outcome. */
  say(conversation, { from, text, me, mine, time, old }) {
    const when = time ? new Date(time) : new Date();
    const line = element('li', mine ? 'mine' : '');
    if (me) line.classList.add('act');
    const clock = element('time', '', when.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' }));
    clock.dateTime = when.toISOString();
    clock.title = when.toLocaleString();
    const who = element('span', 'from');
    who.append(element('bdi', '', shown(from)));
    who.style.setProperty('--hue', hue(from));
    const said = element('span', 'text');
    said.dir = 'auto';
    said.append(linked(shown(text)));
    line.append(clock, who, said);
    const fate = element('span', 'fate', mine ? '…' : '');
    if (mine) line.append(fate);
    conversation.append(line, when, !mine && !old);
    if (!conversation.newest || when > conversation.newest) conversation.newest = when;
    return (state, words) => {
      line.classList.toggle('failed', state !== 'sent');
      fate.textContent = state === 'failed' ? `not sent: ${words}` : words;
    };
  }

  /** Shows a line from the page itself. */
  note(conversation, text, className) {
    const line = element('li', className || 'notice');
    line.append(element('span', 'text', shown(text)));
    conversation.append(line, new Date(), false);
  }

  /** Shows a message that was not sent, with a button that returns it to the box. */
  kept(conversation, text, why, putBack) {
    const line = element('li', 'mine failed');
    line.append(element('span', 'text', shown(text)));
    line.append(element('span', 'fate', `not sent: ${why}`));
    const back = element('button', '', 'Edit again');
    back.type = 'button';
    back.addEventListener('click', () => { line.remove(); putBack(text); });
    line.append(back);
    conversation.append(line, new Date(), false);
  }
}
