// The log of the chosen conversation. Only that one has lines in the page, in pieces, of which the
// browser lays out those that are in sight. Appended lines never change earlier ones, so a screen
// reader reads each line once.

const PIECE = 50;
const FIRST_LINES = 150;
const GROUP_WITHIN = 5 * 60 * 1000;
// Made once, because making one takes longer than formatting thousands of times.
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const DATE_AND_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: 'long', timeStyle: 'medium' });

const sizeOf = (box) => `${box.clientWidth} ${box.clientHeight}`;

class Log {
  constructor(root, calls) {
    this.root = root;
    this.calls = calls; // { reached(conversation), scrolled(), menu(item, anchor), retry(item) }
    this.inner = element('div', 'lines');
    root.append(this.inner);
    this.conversation = null;
    this.first = 0; // the index of the first item that is in the page
    this.isAtEnd = true;
    root.addEventListener('scroll', () => this.scrolled(), { passive: true });
    root.addEventListener('keydown', (event) => this.keyed(event));
    // A log scrolled to its end stays there when lines are added, the keyboard opens, the window is
    // resized or the composer grows. The browser then scrolls, too, to keep what it shows in place:
    // a scroll that comes before its resize has been observed is not the user's.
    const stay = new ResizeObserver(() => {
      this.size = sizeOf(root);
      if (this.isAtEnd) this.toEnd();
    });
    stay.observe(root);
    stay.observe(this.inner);
  }

  /** Shows a conversation, where the user was reading. */
  show(conversation) {
    const before = this.conversation;
    if (before) this.remember(before);
    this.conversation = conversation;
    const { items, place, mark } = conversation;
    const wanted = place?.item ?? mark;
    const at = wanted ? items.indexOf(wanted) : -1;
    this.first = Math.max(0, Math.min(items.length - FIRST_LINES, at < 0 ? Infinity : at - PIECE));
    this.rebuild();
    if (place && at >= 0) {
      this.isAtEnd = false;
      this.root.scrollTop +=
        wanted.node.getBoundingClientRect().top - this.root.getBoundingClientRect().top - place.top;
    } else if (mark && at >= 0) {
      this.isAtEnd = false;
      mark.node.scrollIntoView({ block: 'center' });
    } else {
      this.toEnd();
    }
    this.scrolled();
  }

  /** Remembers the line at the top, and releases the lines of the conversation. */
  remember(conversation) {
    conversation.place = null;
    if (!this.isAtEnd) {
      const { top } = this.root.getBoundingClientRect();
      const item = conversation.items.find((there) => there.node && there.node.getBoundingClientRect().bottom > top);
      if (item) conversation.place = { item, top: item.node.getBoundingClientRect().top - top };
    }
    for (const item of conversation.items) {
      item.node = null;
      item.draw = null;
    }
    const keptFrom = conversation.place ? conversation.items.indexOf(conversation.place.item) - PIECE : Infinity;
    const extra = Math.min(conversation.items.length - KEPT_LINES, keptFrom);
    if (extra > 0) conversation.forget(extra);
  }

  rebuild() {
    this.inner.replaceChildren();
    this.inner.append(this.begin());
    const { items } = this.conversation;
    for (let at = this.first; at < items.length; at += PIECE)
      this.inner.append(this.piece(at, Math.min(at + PIECE, items.length)));
    if (this.inner.children.length === 1) this.inner.append(element('ol', 'piece'));
    this.drawBegin();
  }

  begin() {
    this.top = element('p', 'begin');
    return this.top;
  }

  drawBegin() {
    const { hasOlder, isLoading, items, kind } = this.conversation;
    if (hasOlder || this.first > 0) this.top.textContent = isLoading ? 'Loading older messages…' : '';
    else if (items.length)
      this.top.textContent = kind === 'partner' ? '' : 'This is the beginning of the conversation.';
    else this.top.textContent = this.calls.emptyText(this.conversation);
  }

  piece(from, to) {
    const list = element('ol', 'piece');
    for (let at = from; at < to; at += 1) list.append(...this.nodes(at));
    return list;
  }

  /** Makes the line of an item, and the separators before it. */
  nodes(at) {
    const { items, mark } = this.conversation;
    const [item, before] = [items[at], items[at - 1]];
    const nodes = [];
    item.separators?.forEach((there) => there.remove());
    item.separators = [];
    if (!before || before.at.toDateString() !== item.at.toDateString()) {
      const day = element('li', 'separator day');
      const time = element('time', '', dayOf(item.at));
      time.dateTime = item.at.toISOString();
      day.append(time);
      item.separators.push(day);
    }
    if (item.gap) item.separators.push(element('li', 'separator', 'Messages may be missing here'));
    if (item === mark) item.separators.push(element('li', 'separator unread', 'New messages'));
    const isFirst =
      item.separators.length > 0 ||
      !before ||
      before.note ||
      item.note ||
      before.me ||
      item.me ||
      before.from.toLowerCase() !== item.from.toLowerCase() ||
      item.at - before.at > GROUP_WITHIN;
    item.node = item.note ? this.noteNode(item) : this.messageNode(item, isFirst);
    nodes.push(...item.separators, item.node);
    return nodes;
  }

  noteNode(item) {
    const line = element('li', `note ${item.tone ?? ''}`);
    const text = element('span', 'text');
    text.append(linked(shown(item.text)));
    line.append(text);
    return line;
  }

  messageNode(item, isFirst) {
    const line = element(
      'li',
      `message${isFirst ? ' first' : ''}${item.mine ? ' mine' : ''}${item.me ? ' act' : ''}${item.mentions ? ' mention' : ''}`,
    );
    line.tabIndex = -1;
    line.item = item;
    line.style.setProperty('--hue', this.conversation.colours.of(item.from));
    const time = CLOCK.format(item.at);
    // Beside a line that continues a group, there is little room.
    const clock = element('time', 'clock', isFirst && !item.me ? time : time.replace(/\s?[AP]M$/i, ''));
    clock.dateTime = item.at.toISOString();
    clock.title = DATE_AND_TIME.format(item.at);
    const from = element('bdi', 'from', shown(item.from));
    from.addEventListener('click', () => more.click());
    if (isFirst && !item.me) {
      const picture = element('span', 'picture', initial(item.from));
      picture.setAttribute('aria-hidden', 'true');
      const head = element('span', 'head');
      head.append(from);
      if (item.mine) head.append(element('span', 'you', 'you'));
      if (item.label) head.append(element('span', 'you', item.label));
      head.append(clock);
      line.append(picture, head);
    } else {
      if (!item.me) from.classList.add('unseen');
      line.append(clock);
    }
    const text = element('div', 'text');
    text.dir = 'auto';
    if (item.me) text.append('* ', from, ' ');
    else if (!isFirst) line.append(from);
    text.append(formatted(shown(item.text)));
    line.append(text);
    const more = buttonOf('⋯', 'more', () => this.calls.menu(item, more));
    more.setAttribute('aria-label', `Actions for the message from ${shown(item.from)}`);
    more.setAttribute('aria-haspopup', 'menu');
    more.tabIndex = -1;
    line.append(more);
    if (item.mine) {
      const state = element('span', 'state');
      line.append(state);
      item.draw = () => this.drawState(item, line, state);
      item.draw();
    }
    return line;
  }

  /** Shows what became of an own message. */
  drawState(item, line, place) {
    const words = {
      sending: ['…', 'sending'],
      sent: ['✓', 'sent'],
      delivered: [
        item.count && this.conversation.kind === 'room' ? `✓ ${item.count}` : item.count === 0 ? '–' : '✓',
        item.count === 0 ? 'sent, but nobody else is there' : `delivered to ${item.count}`,
      ],
      failed: ['', `not sent: ${item.reason}`],
      unsure: ['', 'may not have been delivered'],
    };
    const [short, long] = words[item.state] ?? ['', ''];
    line.classList.toggle('failed', item.state === 'failed' || item.state === 'unsure');
    place.replaceChildren();
    if (short) {
      const sign = element('span', '', short);
      sign.setAttribute('aria-hidden', 'true');
      place.append(sign, element('span', 'unseen', long));
      place.title = long;
      return;
    }
    if (!long) return;
    place.append(
      element('span', '', shown(long)),
      buttonOf('Send again', 'retry', () => this.calls.retry(item)),
    );
  }

  /** Shows an item that was added to the conversation at that index. */
  added(at) {
    const { items } = this.conversation;
    if (at < this.first) {
      this.first += 1;
      return;
    }
    const next = items[at + 1];
    if (next) {
      const anchor = next.separators?.[0] ?? next.node;
      anchor.before(...this.nodes(at));
      // What follows may now begin a group, or continue one.
      const old = next.node;
      const nodes = this.nodes(at + 1);
      old.replaceWith(...nodes);
      return;
    }
    let last = this.inner.lastElementChild;
    if (last.children.length >= PIECE) {
      last = element('ol', 'piece');
      this.inner.append(last);
    }
    last.append(...this.nodes(at));
    if (items.length === 1) this.drawBegin();
    this.trim();
  }

  /** Removes the oldest pieces of a long log, unless the user is reading there. */
  trim() {
    if (!this.isAtEnd || this.inner.children.length < 62) return;
    for (let count = 0; count < 20; count += 1) {
      const piece = this.inner.children[1];
      this.first += piece.querySelectorAll('.message, .note').length;
      piece.remove();
    }
  }

  /** Shows items that have just been added at the beginning of the conversation. */
  addedOlder(count) {
    this.first += count;
    this.earlier();
    this.drawBegin();
  }

  /** Puts earlier lines into the page, without moving those that are in sight. */
  earlier() {
    const to = this.first;
    if (!to) return;
    const from = Math.max(0, to - 2 * PIECE);
    const anchor = this.conversation.items[to]?.node;
    const top = anchor?.getBoundingClientRect().top;
    const pieces = [];
    for (let at = from; at < to; at += PIECE) pieces.push(this.piece(at, Math.min(at + PIECE, to)));
    this.first = from;
    this.top.after(...pieces);
    // The line that was first may no longer begin a day or a group.
    if (anchor) {
      const item = this.conversation.items[to];
      const nodes = this.nodes(to);
      anchor.replaceWith(...nodes);
      this.root.scrollTop += item.node.getBoundingClientRect().top - top;
    }
  }

  toEnd() {
    this.isAtEnd = true;
    this.root.scrollTop = this.root.scrollHeight;
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.root;
    // Only the user scrolls up. (The event of a scroll to the end may come when there is more.)
    if (scrollHeight - scrollTop - clientHeight < 40) this.isAtEnd = true;
    else if (this.isAtEnd && this.size !== sizeOf(this.root)) this.toEnd();
    else if (scrollTop < this.lastTop - 1) this.isAtEnd = false;
    this.lastTop = scrollTop;
    if (scrollTop < 600) {
      if (this.first > 0) this.earlier();
      else if (this.conversation?.hasOlder && !this.conversation.isLoading) this.calls.older(this.conversation);
    }
    this.calls.scrolled();
  }

  /** Shows the mark before the first unread item. */
  drawMark() {
    for (const old of this.inner.querySelectorAll('.separator.unread')) old.remove();
    const { mark } = this.conversation;
    mark?.node?.before(element('li', 'separator unread', 'New messages'));
  }

  /** After midnight, the days have other names. */
  drawDays() {
    for (const time of this.inner.querySelectorAll('.day time')) time.textContent = dayOf(new Date(time.dateTime));
  }

  /** The arrow keys move between messages; Enter opens the actions of one. */
  keyed(event) {
    const line = event.target.closest('.message');
    if (event.key === 'Enter' && line === event.target) {
      event.preventDefault();
      this.calls.menu(line.item, line);
      return;
    }
    if (!['ArrowUp', 'ArrowDown'].includes(event.key) || event.target.closest('button')) return;
    const lines = [...this.inner.querySelectorAll('.message')];
    const at = line ? lines.indexOf(line) : lines.length;
    const next = lines[at + (event.key === 'ArrowUp' ? -1 : 1)];
    if (!next) return;
    event.preventDefault();
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: 'nearest' });
  }
}
