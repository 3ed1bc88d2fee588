// The session: connects and reconnects the WebSocket, logs in, and tracks the outcome of each
// message. It knows nothing of the page; it calls the functions of `listener`.

const FULL_PAUSE = 2000;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
// A server needs up to four minutes to detect a dead connection. Until then, the name is in use.
const NAME_PAUSE = 10000;
const NAME_TRIES = 25;
const PONG_WITHIN = 5000;

const ENDS = {
  'IDLE TIMEOUT': 'The server disconnected you because you were idle for too long.',
  'TOTAL TIME TIMEOUT': 'The server disconnected you because you reached its maximum connection time.',
  'TOO SLOW': 'The server disconnected you because your browser received its messages too slowly.',
  'TAKEN OVER': 'You logged in with this name on another connection.',
  'KICKED': 'You were removed.',
  'SHUTDOWN': 'The server is shutting down.',
};

class Session {
  constructor(listener) {
    this.listener = listener;
    this.socket = null;
    this.link = 0;           // number of connections so far
    this.isIn = false;       // true after the welcome
    this.max = 8192;         // maximum length of a document, in bytes
    this.name = null;        // the name on this connection, after the login
    this.wanted = null;      // the user's choice of name, kept for reconnects
    this.password = null;
    this.rooms = new Set();  // the user's choice of rooms, kept for reconnects
    this.inRooms = new Set();
    this.partner = null;     // { label, arrival }
    this.arrivals = 0;
    this.presenceTold = false;
    this.awaited = [];       // requests without a reply yet, in order
    this.end = null;         // the server's reason for closing the connection
    this.tries = 0;          // number of FULL replies in a row
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
    this.listener.state(this.tries ? 'Requesting a seat again…' : 'Connecting…', true);
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
    // A message without a reply may have been delivered or not.
    for (const waiting of this.awaited) if (waiting.fate) waiting.fate('unsure', 'may not have been delivered');
    this.awaited = [];
    this.listener.changed();
    if (this.end === 'FULL') {
      this.tries += 1;
      const more = this.elsewhere ? ' Another server of this chat has free seats:' : '';
      this.listener.state(`The server is full (try ${this.tries}). Retrying in 2 s.${more}`, false, null, this.elsewhere);
      this.timer = setTimeout(() => this.connect(), FULL_PAUSE);
      return;
    }
    this.tries = 0;
    const why = this.end ? ENDS[this.end] || this.end : closed(event.code, event.reason);
    const stays = this.isLeaving || (this.end && this.end !== 'SHUTDOWN' && this.end !== 'TOO SLOW');
    if (stays) {
      this.listener.state(this.isLeaving ? 'You left.' : why, false, 'Reconnect');
      return;
    }
    // Random, so that a class that has lost its server does not reconnect at the same moment.
    const wait = this.pause * (1 + Math.random() / 4);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.listener.state(`${why} Reconnecting in ${Math.ceil(wait / 1000)} s.`, false, 'Reconnect now');
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Reconnects at once, because the user or the page has become active. */
  comeBack() {
    if (!this.socket) this.connect();
  }

  /** Tests the connection: a socket that a sleeping phone has closed still looks open. */
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
    else this.listener.state('You left.', false, 'Reconnect');
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

  // --- documents from the server

  heard(text) {
    const said = documents.read(text);
    this.listener.travelled('in', text, said);
    if (!said) return;
    switch (said.kind) {
      case 'ticket':
        // Answer at once, because the passcode expires soon.
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
        if (this.presenceTold) this.answered(['CHAT'], 'failed', 'you have no partner');
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
      case 'ROOM JOINED': this.listener.roomNews(said.room, `${said.username} joined`); break;
      case 'ROOM LEFT': this.listener.roomNews(said.room, `${said.username} left`); break;
      case 'USER JOINED': this.listener.person(said.username, true); break;
      case 'USER LEFT': this.listener.person(said.username, false); break;
      case 'IDLE SOON':
        this.idleSoon = true;
        this.listener.notice(`You have been idle. The server will disconnect you in ${said.seconds} s; touch the page or press any key to stay.`);
        break;
      case 'PONG': this.answered(['PING']); break;
      case 'said':
        // The partner may have logged in since it joined, so its label may be new.
        if (said.scope === 'partner' && this.partner) { this.partner.label = said.from; this.listener.changed(); }
        this.listener.said(said);
        break;
      case 'notice': this.listener.notice(said.text); break;
      case 'KICKED':
        this.end = said.by ? `The moderator ${said.by} removed you.` : 'The operator removed you.';
        if (said.reason) this.end += ` Reason: ${said.reason}`;
        break;
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
    const where = said.seat ? `seat ${said.seat}` : `seat ${said.port}`;
    this.listener.state(`Connected (${where}).`, true);
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
    // A password for a new account must be typed twice, so a stored one is not used.
    if (this.password !== null && !isNew) this.prove(this.password);
    else this.listener.passwordWanted(this.wanted, isNew);
  }

  /** Uses an invitation for the name that was wanted. */
  invite(code) {
    if (!this.isIn) return;
    this.write(documents.command('INVITATION', { code }));
    if (this.wanted) this.login(this.wanted);
  }

  /** Sends a command of a moderator, or a report. The server answers with a notice or an error. */
  moderate(command, parts) {
    this.write(documents.command(command, parts));
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

  // --- sending messages; `fate(state, words)` is called with the outcome

  chat(text, me, fate) {
    this.send(documents.message(text, me), { kind: 'CHAT', fate });
    // A message to the partner has no reply. The reply to a following PING confirms it.
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

  /** Requests the people and the rooms, at most every five seconds. */
  refresh() {
    if (!this.name || (this.refreshedAt && Date.now() - this.refreshedAt < 5000)) return;
    this.refreshedAt = Date.now();
    this.send(documents.command('WHO'), { kind: 'WHO' });
    this.send(documents.command('ROOMS'), { kind: 'ROOMS' });
  }

  /** Handles a touch or a key: after an idle warning, it keeps the seat. */
  touched() {
    if (!this.idleSoon || !this.isIn) return;
    this.idleSoon = false;
    this.write(documents.command('STAY'));
  }

  /** Completes the oldest request of these kinds. Replies arrive in the order of requests. */
  answered(kinds, state, words, room) {
    const matches = (there) => kinds.includes(there.kind) && (room === undefined || there.room === room);
    const at = this.awaited.findIndex(matches);
    if (at < 0) return null;
    // Chat messages before it have been delivered, which has no reply.
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
    // The server closes the connection.
    if (said.code === 'banned') { this.end = sentenceOf(said.sentence); return; }
    const kinds = {
      'no-such-user': ['SENT'], 'login-first': ['SENT', 'JOIN', 'LEAVE', 'TOPIC', 'WHO', 'ROOMS'], 'not-a-member': ['SENT', 'LEAVE', 'TOPIC'],
      'no-such-room': ['SENT', 'LEAVE', 'TOPIC'], 'already-member': ['JOIN'], 'no-room-left': ['JOIN'],
      'bad-name': ['LOGIN', 'JOIN'], 'bad-topic': ['TOPIC'], 'name-in-use': ['LOGIN'], 'wrong-password': ['PASSWORD'], 'bad-password': ['PASSWORD'],
      'not-saved': ['PASSWORD'], 'already-logged-in': ['LOGIN'], 'muted': ['CHAT', 'SENT', 'TOPIC'],
      'registration-closed': ['LOGIN', 'PASSWORD'], 'invitation-needed': ['LOGIN', 'PASSWORD'], 'bad-invitation': ['LOGIN', 'PASSWORD'],
    };
    const found = Object.hasOwn(kinds, said.code) ? this.answered(kinds[said.code], 'failed', said.sentence) : null;
    if (said.code === 'name-in-use' && this.hadName === this.wanted && this.nameTries < NAME_TRIES) {
      this.nameTries += 1;
      if (this.nameTries === 1) this.listener.notice(`The name ${this.wanted} is still in use by your old connection, because the server has not detected yet that it is dead. The page retries until the name is free, which takes up to four minutes.`);
      const link = this.link;
      setTimeout(() => { if (link === this.link && this.isIn && !this.name && this.wanted) this.login(this.wanted); }, NAME_PAUSE);
      return;
    }
    if (found && found.kind === 'JOIN') this.rooms.delete(found.room);
    if (['invitation-needed', 'bad-invitation'].includes(said.code)) { this.listener.invitationWanted(this.wanted, said.code === 'bad-invitation'); return; }
    if (['bad-name', 'name-in-use', 'registration-closed'].includes(said.code) && (!found || found.kind === 'LOGIN')) {
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

function sentenceOf(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function reached(count) {
  if (count === 0) return 'no recipients';
  return count === 1 ? '1 recipient' : `${count} recipients`;
}

/** Explains a WebSocket close code to the user. */
function closed(code, reason) {
  const words = {
    1000: 'The session has ended.', 1001: 'The server is shutting down.', 1002: 'The server rejected invalid data from this browser.',
    1006: 'The connection was lost.', 1008: 'The server ended the session.', 1009: 'The message was too long for the server.',
    1013: 'The server is full.',
  };
  return reason || words[code] || `The connection was lost (code ${code}).`;
}
