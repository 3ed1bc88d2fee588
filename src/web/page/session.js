// The session: one WebSocket after the other, which way in, under which name, and what became of what was said.
// It knows nothing of the page: it calls the functions of `listener`.

const FULL_PAUSE = 2000;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
// A server needs up to four minutes to find that a connection is dead; until then the name is in use.
const NAME_PAUSE = 10000;
const NAME_TRIES = 25;
const PONG_WITHIN = 5000;

const ENDS = {
  'IDLE TIMEOUT': 'Nothing was heard from you for too long, so the server gave your seat to somebody else.',
  'TOTAL TIME TIMEOUT': 'You were connected for as long as this server lets anybody.',
  'TOO SLOW': 'Your browser did not take what was sent to it in time.',
  'TAKEN OVER': 'You have logged in elsewhere under this name.',
  'KICKED': 'The operator of the server has removed you.',
  'SHUTDOWN': 'The server is going down.',
};

class Session {
  constructor(listener) {
    this.listener = listener;
    this.socket = null;
    this.link = 0;           // how many connections there have been
    this.isIn = false;       // the passcode was right
    this.max = 8192;
    this.name = null;        // as the server knows it, on this connection
    this.wanted = null;      // who the person wants to be, kept for coming back
    this.password = null;
    this.rooms = new Set();  // which rooms the person wants to be in
    this.inRooms = new Set();
    this.partner = null;     // { label, arrival }
    this.arrivals = 0;
    this.presenceTold = false;
    this.awaited = [];       // what has been said and not been answered, in order
    this.end = null;         // why the server has ended it
    this.tries = 0;          // for FULL
    this.pause = FIRST_PAUSE;
    this.timer = null;
    this.nameTries = 0;
    this.idleSoon = false;
    this.lostAt = null;
    this.isLeaving = false;
  }

  // --- the connection

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.isLeaving = false;
    this.end = null;
    this.link += 1;
    const link = this.link;
    const url = new URL('chat', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.socket = socket;
    this.listener.state(this.tries ? 'Asking for a seat again…' : 'Connecting…', true);
    socket.onmessage = (event) => { if (link === this.link) this.heard(String(event.data)); };
    socket.onclose = (event) => { if (link === this.link) this.lost(event); };
  }

  lost(event) {
    const wasIn = this.isIn;
    this.socket = null;
    this.isIn = false;
    this.name = null;
    this.partner = null;
    this.presenceTold = false;
    this.inRooms.clear();
    this.idleSoon = false;
    if (wasIn && !this.lostAt) this.lostAt = Date.now();
    // What had no answer may have arrived or not; nobody knows.
    for (const waiting of this.awaited) if (waiting.fate) waiting.fate('unsure', 'not known whether it arrived');
    this.awaited = [];
    this.listener.changed();
    if (this.end === 'FULL') {
      this.tries += 1;
      const more = this.elsewhere ? ' Another server of this chat has seats:' : '';
      this.listener.state(`The server is full (try ${this.tries}). Asking again in 2 s.${more}`, false, null, this.elsewhere);
      this.timer = setTimeout(() => this.connect(), FULL_PAUSE);
      return;
    }
    this.tries = 0;
    const why = this.end ? ENDS[this.end] || this.end : closed(event.code, event.reason);
    const stays = this.isLeaving || (this.end && this.end !== 'SHUTDOWN' && this.end !== 'TOO SLOW');
    if (stays) {
      this.listener.state(this.isLeaving ? 'You have left.' : why, false, 'Come back');
      return;
    }
    // A bit more or less, so that a class that has lost its server does not come back in the same instant.
    const wait = this.pause * (1 + Math.random() / 4);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.listener.state(`${why} Coming back in ${Math.ceil(wait / 1000)} s.`, false, 'Now');
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** The person is here, or the page is back: do not wait any longer. */
  comeBack() {
    if (!this.socket) this.connect();
  }

  /** A socket that a sleeping phone has killed looks open. So after a while away it is asked. */
  ask() {
    if (!this.isIn) return;
    const link = this.link;
    let answered = false;
    this.send(documents.command('PING'), { kind: 'PING', answered: () => { answered = true; } });
    setTimeout(() => {
      if (link !== this.link || answered || !this.socket) return;
      this.socket.onclose = null;
      this.socket.close();
      this.lost({ code: 1006, reason: '' });
      this.comeBack();
    }, PONG_WITHIN);
  }

  leave() {
    this.isLeaving = true;
    if (this.socket && this.isIn) this.write(documents.command('TERMINATE'));
    else if (this.socket) this.socket.close();
    else this.listener.state('You have left.', false, 'Come back');
    clearTimeout(this.timer);
  }

  write(text) {
    this.socket.send(text);
    this.listener.travelled('out', text);
  }

  send(text, waiting) {
    if (waiting) this.awaited.push(waiting);
    this.write(text);
  }

  // --- what the server says

  heard(text) {
    const said = documents.read(text);
    this.listener.travelled('in', text, said);
    if (!said) return;
    switch (said.kind) {
      case 'ticket':
        // At once: the passcode is good for two seconds.
        this.write(documents.handshake(said.passcode));
        break;
      case 'FULL': this.end = 'FULL'; this.elsewhere = said.elsewhere; break;
      case 'welcome': this.welcomed(said); break;
      case 'PARTNER JOINED':
        this.arrivals += 1;
        this.presenceTold = true;
        this.partner = { label: said.partner, arrival: this.arrivals };
        this.listener.partner(this.partner, true);
        break;
      case 'PARTNER LEFT':
        this.listener.partner(this.partner, false);
        this.partner = null;
        this.listener.changed();
        break;
      case 'NO PARTNER':
        if (this.presenceTold) this.answered(['CHAT'], 'failed', 'nobody is beside you');
        this.presenceTold = true;
        this.partner = null;
        this.listener.changed();
        break;
      case 'PASSWORD': this.answered(['LOGIN']); this.passwordWanted(said.isNew); break;
      case 'WELCOME': this.answered(['LOGIN', 'PASSWORD']); this.loggedIn(said.username); break;
      case 'SENT': this.answered(['SENT'], 'sent', reached(said.count)); break;
      case 'WHO': this.answered(['WHO']); this.listener.who(said.users); break;
      case 'ROOMS': this.answered(['ROOMS']); this.listener.roomList(said.rooms); break;
      case 'JOINED':
        this.answered(['JOIN']);
        this.inRooms.add(said.room);
        this.rooms.add(said.room);
        this.listener.joined(said.room);
        break;
      case 'LEFT':
        this.answered(['LEAVE']);
        this.inRooms.delete(said.room);
        this.rooms.delete(said.room);
        this.listener.left(said.room);
        break;
      case 'TOPIC': this.answered(['TOPIC'], undefined, undefined, said.room); this.listener.topic(said); break;
      case 'ROOM JOINED': this.listener.roomNews(said.room, `${said.username} has come`); break;
      case 'ROOM LEFT': this.listener.roomNews(said.room, `${said.username} has gone`); break;
      case 'USER JOINED': this.listener.person(said.username, true); break;
      case 'USER LEFT': this.listener.person(said.username, false); break;
      case 'IDLE SOON':
        this.idleSoon = true;
        this.listener.notice(`Nothing has been heard from you for a while. In ${said.seconds} s the server ends the session; a touch or a key keeps it.`);
        break;
      case 'PONG': this.answered(['PING']); break;
      case 'said':
        // Who sits beside has logged in meanwhile: another name, and the same one.
        if (said.scope === 'partner' && this.partner) { this.partner.label = said.from; this.listener.changed(); }
        this.listener.said(said);
        break;
      case 'notice': this.listener.notice(said.text); break;
      case 'KICKED': this.end = 'KICKED'; if (said.reason) this.listener.notice(`The operator says: ${said.reason}`); break;
      case 'error': this.refused(said); break;
      default:
        if (Object.hasOwn(ENDS, said.kind)) this.end = said.kind;
    }
  }

  welcomed(said) {
    this.isIn = true;
    this.max = said.max;
    this.tries = 0;
    this.pause = FIRST_PAUSE;
    const where = said.seat ? `seat ${said.seat}` : `the seat of port ${said.port}`;
    this.listener.state(`You are in ${where}.`, true);
    if (this.lostAt) {
      this.listener.back(Math.round((Date.now() - this.lostAt) / 1000));
      this.lostAt = null;
    }
    this.nameTries = 0;
    if (this.wanted) this.login(this.wanted);
    else this.listener.whoAreYou();
  }

  // --- names

  login(name, password) {
    this.wanted = name;
    if (password !== undefined) this.password = password;
    if (this.isIn) this.send(documents.command('LOGIN', { username: name }), { kind: 'LOGIN' });
  }

  passwordWanted(isNew) {
    // For a new account it is asked for twice, so one that is known is never sent unasked.
    if (this.password !== null && !isNew) this.prove(this.password);
    else this.listener.passwordWanted(this.wanted, isNew);
  }

  prove(password) {
    this.password = password;
    if (this.isIn) this.send(documents.command('PASSWORD', { password }), { kind: 'PASSWORD' });
  }

  loggedIn(name) {
    this.name = name;
    this.wanted = name;
    this.hadName = name;
    this.nameTries = 0;
    this.listener.loggedIn(name);
    for (const room of this.rooms) this.join(room);
    this.refreshedAt = null;
    this.send(documents.command('WHO'), { kind: 'WHO' });
  }

  // --- saying things. `fate(state, words)` is told what became of it.

  chat(text, me, fate) {
    this.send(documents.message(text, me), { kind: 'CHAT', fate });
    // It has no answer of its own. What follows it has one, and by then it has been handed over.
    this.send(documents.command('PING'), { kind: 'PING', answered: () => this.handedOver() });
  }

  handedOver() {
    while (this.awaited.length && this.awaited[0].kind === 'CHAT') this.awaited.shift().fate('sent', '');
  }

  everyone(text, me, fate) {
    this.send(documents.command('PM', { message: text }, me), { kind: 'SENT', fate });
  }

  person(to, text, me, fate) {
    this.send(documents.command('DM', { to, message: text }, me), { kind: 'SENT', fate });
  }

  room(room, text, me, fate) {
    this.send(documents.command('SAY', { room, message: text }, me), { kind: 'SENT', fate });
  }

  join(room) {
    this.send(documents.command('JOIN', { room, here: true }), { kind: 'JOIN', room });
  }

  leaveRoom(room) {
    this.send(documents.command('LEAVE', { room }), { kind: 'LEAVE', room });
  }

  setTopic(room, topic) {
    this.send(documents.command('TOPIC', topic === null ? { room } : { room, topic }), { kind: 'TOPIC', room });
  }

  /** Who is here and which rooms there are, at most every five seconds. */
  refresh() {
    if (!this.name || (this.refreshedAt && Date.now() - this.refreshedAt < 5000)) return;
    this.refreshedAt = Date.now();
    this.send(documents.command('WHO'), { kind: 'WHO' });
    this.send(documents.command('ROOMS'), { kind: 'ROOMS' });
  }

  /** A touch or a key: after a warning, it keeps the seat. */
  touched() {
    if (!this.idleSoon || !this.isIn) return;
    this.idleSoon = false;
    this.write(documents.command('STAY'));
  }

  /** Answers come in the order of what was asked: this one belongs to the oldest of these kinds. */
  answered(kinds, state, words, room) {
    const matches = (there) => kinds.includes(there.kind) && (room === undefined || there.room === room);
    const at = this.awaited.findIndex(matches);
    if (at < 0) return null;
    // Chat before it has been handed over without a word.
    const [before, found] = [this.awaited.slice(0, at), this.awaited[at]];
    this.awaited.splice(at, 1);
    if (!kinds.includes('CHAT')) {
      this.awaited = this.awaited.filter((there) => !(there.kind === 'CHAT' && before.includes(there)));
      for (const there of before) if (there.kind === 'CHAT') there.fate('sent', '');
    }
    if (found.fate) found.fate(state || 'sent', words || '');
    if (found.answered) found.answered();
    return found;
  }

  refused(said) {
    const kinds = {
      'no-such-user': ['SENT'], 'login-first': ['SENT', 'JOIN', 'LEAVE', 'TOPIC', 'WHO', 'ROOMS'], 'not-a-member': ['SENT', 'LEAVE', 'TOPIC'],
      'no-such-room': ['SENT', 'LEAVE', 'TOPIC'], 'already-member': ['JOIN'], 'no-room-left': ['JOIN'],
      'bad-name': ['LOGIN', 'JOIN'], 'bad-topic': ['TOPIC'], 'name-in-use': ['LOGIN'], 'wrong-password': ['PASSWORD'], 'bad-password': ['PASSWORD'],
      'not-saved': ['PASSWORD'], 'already-logged-in': ['LOGIN'],
    };
    const found = Object.hasOwn(kinds, said.code) ? this.answered(kinds[said.code], 'failed', said.sentence) : null;
    if (said.code === 'name-in-use' && this.hadName === this.wanted && this.nameTries < NAME_TRIES) {
      this.nameTries += 1;
      if (this.nameTries === 1) this.listener.notice(`The server has not noticed yet that your old connection is dead, and holds the name ${this.wanted} for it. It is asked for again until it is free, which takes up to four minutes.`);
      const link = this.link;
      setTimeout(() => { if (link === this.link && this.isIn && !this.name && this.wanted) this.login(this.wanted); }, NAME_PAUSE);
      return;
    }
    if (found && found.kind === 'JOIN') this.rooms.delete(found.room);
    if (['bad-name', 'name-in-use'].includes(said.code) && (!found || found.kind === 'LOGIN')) {
      this.wanted = null;
      this.listener.whoAreYou(said.sentence);
      return;
    }
    if (['wrong-password', 'bad-password'].includes(said.code)) {
      this.password = null;
      this.listener.passwordWanted(this.wanted, said.code === 'bad-password', said.sentence);
      return;
    }
    if (!found || !found.fate) this.listener.trouble(said.sentence);
  }
}

function reached(count) {
  if (count === 0) return 'nobody else is there';
  return count === 1 ? 'reached 1' : `reached ${count}`;
}

/** What a close code means, for a person. */
function closed(code, reason) {
  const words = {
    1000: 'The conversation has ended.', 1001: 'The server is going down.', 1002: 'The server did not understand this browser.',
    1006: 'The connection is lost.', 1008: 'The server has ended the conversation.', 1009: 'That message was too long for the server.',
    1013: 'The server is full.',
  };
  return reason || words[code] || `The connection is lost (code ${code}).`;
}
