// The timeline: the events received so far, the state after each one, and the position that the page
// shows. A running server and a recorded run differ only in where more events come from.
'use strict';

/** Maximum number of events that are kept for going back. */
const MOST_EVENTS = 20000;
/** Number of events of a recorded run that one request fetches. */
const CHUNK = 1000;
/** Maximum pause between two events while playing, in milliseconds at speed 1. */
const LONGEST_PAUSE = 2500;
/** Minimum time for which an event is shown while playing, in milliseconds at speed 1, so that its
 * animation can be followed. */
const SHOWN_FOR = {
  caption: 1600, ticket: 2000, 'ticket-resent': 900, arrived: 900, seated: 1300, calling: 900, relayed: 1500, 'no-partner': 1200,
  public: 1500, direct: 1500, 'room-said': 1700, 'room-opened': 700, 'room-joined': 700, full: 1500, 'no-show': 1000,
  'unexpected-connection': 1500, 'wrong-passcode': 1300, closed: 1100, 'seat-free': 1200, tick: 250,
};
/** The events before which *Next* pauses. */
const ACT_ENDS = ['caption', 'act-ended'];
const SPEEDS = [0.25, 0.5, 1, 2, 4, 10, 100];

/** Returns the state that a complete picture describes. */
function stateOf(picture) {
  return {
    ...picture,
    cards: new Map(Object.entries(picture.cards).map(([seat, card]) => [Number(seat), card])),
    threads: new Map(Object.entries(picture.threads)),
  };
}

/** Returns a map with the changes; `null` removes an entry. */
function changed(map, changes, key) {
  const next = new Map(map);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) next.delete(key(name));
    else next.set(key(name), value);
  }
  return next;
}

/** Returns the state after an event. States are never modified, so earlier ones stay valid. */
function stateAfter(before, event) {
  const change = event.change;
  if (change.rules) return stateOf(change);
  const next = { ...before, ...change, tick: Math.max(before.tick, event.tick) };
  next.cards = change.cards ? changed(before.cards, change.cards, Number) : before.cards;
  next.threads = change.threads ? changed(before.threads, change.threads, String) : before.threads;
  return next;
}

const timeline = {
  events: [],
  /** The state after each event. */
  states: [],
  /** The state before the first event. */
  first: null,
  /** Number of events that the page shows. */
  at: 0,
  /** `live`: each event is shown when it arrives. `playing`: events are shown at the pace of the
   * run, multiplied by `speed`. `paused`: nothing moves. */
  mode: 'live',
  speed: 1,
  /** While playing: number of captions to show before pausing. `null` means no pause. */
  captions: null,
  /** The position and the length of a recorded run. */
  replay: null,
  isLoading: false,
  isOver: false,
  /** Set once the viewer has used the time controls, or if the page was opened in the middle of a
   * show or for a recorded run. Until then, a show waits at its first caption. */
  hasBegun: false,
  timer: 0,
  /** The time until which the last event is shown before the next one. */
  shownUntil: 0,

  /** Handles an update. */
  take(news) {
    const isFirst = news.whole && !(this.replay && this.isLoading && this.events.length);
    if (isFirst) this.reset(news);
    if (news.replay) this.replay = news.replay;
    const last = this.events.length ? this.events[this.events.length - 1].n : 0;
    for (const event of news.events) {
      if (!isFirst && event.n <= last) continue;
      this.events.push(event);
      this.states.push(stateAfter(this.states[this.states.length - 1] || this.first, event));
    }
    this.forgetOldest();
    const opening = this.events.findIndex((event) => event.event === 'caption');
    // A recorded run plays immediately. A page that is opened in the middle of a show starts at the
    // present.
    if (isFirst) this.hasBegun ||= opening >= 0 || Boolean(this.replay);
    if (!this.hasBegun && opening >= 0) {
      // The viewer starts the first act.
      this.pause();
      this.jump(opening + 1);
    } else if (isFirst) {
      this.jump(this.events.length);
      if (this.replay) this.begin();
    } else if (this.mode === 'live') {
      this.forwardTo(this.events.length);
    } else if (this.mode === 'playing') {
      this.schedule();
    }
    this.show();
  },

  reset(news) {
    this.first = stateOf(news.picture);
    this.events = [];
    this.states = [];
    this.at = 0;
    this.isOver = false;
    if (!news.replay) { this.mode = 'live'; this.captions = null; }
    clearTimeout(this.timer);
    this.timer = 0;
  },

  /** Starts a recorded run, or continues it after a jump. */
  begin() {
    if (this.mode === 'live') {
      this.mode = 'playing';
      this.speed = this.replay.speed;
    }
    if (this.mode === 'playing') this.schedule();
  },

  forgetOldest() {
    // This drops only events that have been shown, unless the page was paused for very long.
    const surplus = this.events.length - MOST_EVENTS;
    if (surplus < MOST_EVENTS / 10) return;
    this.first = this.states[surplus - 1];
    this.events.splice(0, surplus);
    this.states.splice(0, surplus);
    this.at = Math.max(0, this.at - surplus);
  },

  stateAt(at) {
    return at ? this.states[at - 1] : this.first;
  },

  /** Shows the state at a position, without animations. */
  jump(at) {
    this.at = at;
    landAll();
    showAll(this.stateAt(at), this.events.slice(0, at));
  },

  /** Shows the events up to a position, one by one. */
  forwardTo(at) {
    const from = this.at;
    // After a pause in the background, there are too many events to animate.
    if (at - from > 400) return this.jump(at);
    for (let index = from; index < at; index += 1) {
      this.at = index + 1;
      showEvent(this.events[index], this.states[index], index === at - 1);
    }
  },

  /** Schedules the next event while playing. */
  schedule() {
    if (this.mode !== 'playing' || this.timer) return;
    this.loadMore();
    const next = this.events[this.at];
    if (!next) {
      if (this.replay) {
        if (!this.isLoading && this.lastNumber() >= this.replay.count) this.pause();
      } else if (this.captions === null && this.speed >= 1) {
        this.mode = 'live';
      }
      this.show();
      return;
    }
    // An act ends at `act-ended`, before its actors leave, or otherwise at the next caption.
    if (this.captions === 0 && ACT_ENDS.includes(next.event)) {
      // Let the last flights land first.
      const rest = this.shownUntil - performance.now();
      if (rest <= 0) return this.pause();
      this.timer = setTimeout(() => { this.timer = 0; this.schedule(); }, rest);
      return;
    }
    if (this.captions !== null && next.event === 'caption') this.captions -= 1;
    const last = this.events[this.at - 1];
    const gap = last ? Math.min(LONGEST_PAUSE, Math.max(0, next.time - last.time)) : 0;
    // Fast-forward through the rest of the last act to the next caption.
    const speed = this.speed * (this.captions > 0 && next.event !== 'caption' ? 4 : 1);
    const isWaited = isStep(next);
    const pause = Math.max(gap / speed, isWaited ? this.shownUntil - performance.now() : 0);
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (this.mode !== 'playing') return;
      this.forwardTo(this.at + 1);
      const shown = of(SHOWN_FOR, next.event);
      if (shown) this.shownUntil = performance.now() + shown / speed;
      // Show events that need no time of their own together, but not too many at once.
      for (let count = 0; count < 50 && this.canFollowAtOnce(); count += 1) this.forwardTo(this.at + 1);
      this.schedule();
      this.show();
    }, Math.max(0, pause));
  },

  /** Returns whether the next event has nothing to show and arrived together with the last one. */
  canFollowAtOnce() {
    const [last, next] = [this.events[this.at - 1], this.events[this.at]];
    return next && !isStep(next) && !ACT_ENDS.includes(next.event) && next.time - last.time < 5;
  },

  lastNumber() {
    return this.events.length ? this.events[this.events.length - 1].n : 0;
  },

  /** Fetches more of a recorded run before it is needed. */
  loadMore() {
    if (!this.replay || this.isLoading || this.events.length - this.at > CHUNK / 2) return;
    const from = this.lastNumber();
    if (from < this.replay.count) this.load(from);
  },

  load(from) {
    this.isLoading = true;
    connect('?from=' + from + '&count=' + CHUNK + '&speed=1000');
  },

  /** Handles the end of the stream: a part of a recorded run is complete, or the server has
   * stopped. */
  ended() {
    this.isLoading = false;
    if (!this.replay) { this.isOver = true; return this.show(); }
    if (this.mode === 'playing') this.schedule();
    this.show();
  },

  pause() {
    this.hasBegun = true;
    this.mode = 'paused';
    this.captions = null;
    clearTimeout(this.timer);
    this.timer = 0;
    holdAll(true);
    this.show();
  },

  play(captions = null) {
    if (this.replay && this.at >= this.events.length && this.lastNumber() >= this.replay.count && this.mode === 'paused') this.seek(0);
    this.hasBegun = true;
    this.mode = 'playing';
    this.captions = captions;
    holdAll(false);
    // An event that was shown long enough during the pause needs no more time.
    clearTimeout(this.timer);
    this.timer = 0;
    this.shownUntil = 0;
    this.schedule();
    this.show();
  },

  toggle() {
    if (this.mode === 'paused') this.play();
    else this.pause();
  },

  /** Plays the rest of the current act or, at its end, the next one. Without captions, shows the next event. */
  next() {
    const isCaptioned = state.caption || this.events.some((event) => event.event === 'caption');
    if (!isCaptioned) return this.step(1);
    this.play(this.isInAct() ? 0 : 1);
  },

  isAtCaption() {
    return this.at > 0 && this.events[this.at - 1].event === 'caption';
  },

  isAtEndOfAct() {
    const next = this.events[this.at];
    return Boolean(next && ACT_ENDS.includes(next.event));
  },

  isInAct() {
    const isOver = this.events.slice(0, this.at).findLast(({ event }) => ACT_ENDS.includes(event))?.event === 'act-ended';
    return Boolean(state.caption) && !isOver && !this.isAtEndOfAct();
  },

  /** Pauses at the caption of the current act, or, at a caption, at the one before. */
  previous() {
    const until = this.isAtCaption() ? this.at - 1 : this.at;
    const caption = this.events.slice(0, until).map((event) => event.event).lastIndexOf('caption');
    if (caption < 0) return;
    this.pause();
    this.jump(caption + 1);
    this.show();
  },

  /** Moves one step forward or back. Skips events that the board does not show. */
  step(by) {
    if (this.mode !== 'paused') this.pause();
    let at = this.at;
    if (by > 0) {
      while (at < this.events.length && !isStep(this.events[at])) at += 1;
      at = Math.min(at + 1, this.events.length);
      if (at > this.at) { landAll(); this.forwardTo(at); }
      this.loadMore();
    } else {
      // Go back to just after the previous step.
      const back = () => { while (at > 0 && !isStep(this.events[at - 1])) at -= 1; };
      back();
      if (at > 0) at -= 1;
      back();
      this.jump(at);
    }
    this.show();
  },

  /** Jumps to the end: the present, or the last event of a recorded run. */
  toEnd() {
    this.hasBegun = true;
    clearTimeout(this.timer);
    this.timer = 0;
    this.captions = null;
    if (this.replay) {
      this.mode = 'paused';
      this.seek(this.replay.count);
    } else {
      this.mode = 'live';
      this.speed = Math.max(1, this.speed);
      this.jump(this.events.length);
    }
    holdAll(false);
    this.show();
  },

  setSpeed(speed) {
    this.speed = speed;
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.mode === 'live' && speed < 1) this.mode = 'playing';
    if (this.mode === 'playing') this.schedule();
    this.show();
  },

  /** Moves to an event of the run, by its number from 0. */
  seek(number) {
    clearTimeout(this.timer);
    this.timer = 0;
    const before = this.events.length ? this.events[0].n - 1 : 0;
    if (number >= before && number <= this.lastNumber() && this.events.length) {
      if (this.mode === 'live') this.mode = 'paused';
      this.jump(number - before);
    } else if (this.replay) {
      this.events = [];
      this.states = [];
      this.at = 0;
      this.load(number);
    }
    if (this.mode === 'playing') this.schedule();
    this.show();
  },

  /** Updates the time controls. */
  show() {
    const isPaused = this.mode === 'paused';
    write($('pause').firstChild, isPaused ? 'Play ' : 'Pause ');
    const shownAt = this.at ? this.events[this.at - 1].n : this.events.length ? this.events[0].n - 1 : 0;
    const count = this.replay ? this.replay.count : this.lastNumber();
    const position = $('position');
    position.max = count;
    if (!position.matches(':active')) position.value = shownAt;
    write($('place'), 'event ' + shownAt + ' of ' + count);
    write($('to-end').firstChild, this.replay ? 'End ' : 'Live ');
    const select = $('speed');
    const given = String(this.speed);
    if (![...select.options].some((option) => option.value === given)) select.append(element('option', '', given));
    select.value = given;
    const behind = this.events.slice(this.at).filter(isStep).length;
    const steps = behind ? '; ' + behind + (behind === 1 ? ' step' : ' steps') + ' behind' : '';
    if (this.isOver && this.at >= this.events.length) link('the server has stopped', false);
    else if (this.replay) link(isPaused ? (shownAt < count ? 'a recorded run, paused' : 'end of the run') : 'a recorded run', true);
    else if (isPaused) link('paused' + steps + (this.isAtCaption() ? '; n plays this act' : this.isAtEndOfAct() ? '; end of the act' : ''), true);
    else if (state.over) link('the server is shutting down', false);
    else link(this.mode === 'live' ? 'live' : 'playing' + steps, true);
  },
};
