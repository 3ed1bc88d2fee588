-- The start of every script. KEYS[1] is the chat's prefix, ARGV[1] the calling server's id, and
-- ARGV[2] its incarnation.
local p, id, incarnation = KEYS[1], ARGV[1], ARGV[2]
-- These are strings, because converting a number to a string takes as long as a whole command.
local KEEP, HOUR = '10000', '3600'
-- Time after which the messages of a room that has ended are removed, in seconds.
local SOON = '60'
-- A limit on the number of entries would not limit the memory of a stream, because an entry may be
-- as large as the longest message. The bytes of entries larger than LARGE bytes are therefore
-- counted: a stream has at most 2 * HALF bytes of them, and KEEP smaller entries.
local LARGE, HALF = 512, 4 * 1024 * 1024

-- Returns whether an owner's server holds its lease under that incarnation. An owner begins with a
-- server's id and incarnation.
local function alive(owner)
  local server, its_boot = string.match(owner, '^(%S+) (%S+)')
  return redis.call('GET', p .. 'srv:' .. server) == its_boot
end

-- Counts the bytes of a large entry. When the count exceeds HALF, removes all entries before the
-- one at which it last exceeded HALF.
local function limit_bytes(stream, entry, size)
  local key = p .. stream .. ':bytes'
  if redis.call('HINCRBY', key, 'new', size) > HALF then
    local mark = redis.call('HGET', key, 'mark')
    if mark then redis.call('XTRIM', p .. stream, 'MINID', mark) end
    redis.call('HSET', key, 'mark', entry, 'new', 0)
  end
  redis.call('EXPIRE', key, 2 * HOUR)
end

-- Appends to a stream, and returns the new entry's id. The ids are 0-1, 0-2 and so on without gaps,
-- so a reader can detect missed entries.
local function push(stream, ...)
  local entry = redis.call('XADD', p .. stream, 'MAXLEN', '~', KEEP, '0-*', ...)
  -- A stream that was deleted begins again at 1. This count lets its readers detect that.
  if entry == '0-1' then
    redis.call('INCR', p .. stream .. ':born')
    redis.call('DEL', p .. stream .. ':bytes')
  end
  local size = 0
  for i = 1, select('#', ...) do size = size + #select(i, ...) end
  if size > LARGE then limit_bytes(stream, entry, size) end
  return entry
end

-- Returns a new message's id, and the time in seconds. The id is the time in microseconds, but
-- always greater than the last id. Ids have 16 digits, so comparing them as strings is enough.
local function next_message()
  local now = redis.call('TIME')
  local id = now[1] .. string.format('%06d', now[2])
  local before = redis.call('GET', p .. 'last-message')
  if before and before >= id then id = string.format('%.0f', tonumber(before) + 1) end
  redis.call('SET', p .. 'last-message', id)
  return id, now[1]
end

-- Returns a stream's last id, even if that entry has been removed.
local function last(stream)
  if redis.call('EXISTS', p .. stream) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', p .. stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

-- Returns the last id of a stream, and the number of times that it was created.
local function place(stream)
  return last(stream) .. ' ' .. (redis.call('GET', p .. stream .. ':born') or '0')
end

-- Removes the entries of a server's inbox. The inbox itself expires later, so its numbers continue
-- if the server returns soon.
local function forget_inbox(server)
  redis.call('XTRIM', p .. 'inbox:' .. server, 'MAXLEN', 0)
  redis.call('EXPIRE', p .. 'inbox:' .. server, HOUR)
  redis.call('EXPIRE', p .. 'inbox:' .. server .. ':born', 2 * HOUR)
end

-- Ends a room that has no members: removes it from the list, and hides its messages from the next
-- members. The messages expire after SOON seconds, when every server has read them. If there are
-- large ones, the stream is trimmed at once; otherwise, a client could fill the memory by opening
-- one room after another. Once the stream has expired, a new one begins at 1, and nothing in it is
-- hidden.
local function end_if_empty(room)
  local key = p .. 'room:' .. room
  if redis.call('HLEN', key .. ':members') > 0 then return end
  redis.call('HDEL', p .. 'rooms', room)
  redis.call('DEL', key .. ':topic')
  if redis.call('DEL', key .. ':bytes') == 1 then redis.call('XTRIM', key, 'MAXLEN', 1) end
  redis.call('SET', key .. ':from', last('room:' .. room), 'EX', SOON)
  redis.call('EXPIRE', key, SOON)
  redis.call('EXPIRE', key .. ':born', 2 * HOUR)
end

-- Removes a server's clients from the names and rooms, except those for which `stays` is true.
local function take_out(server, stays)
  local names = redis.call('HGETALL', p .. 'names')
  for i = 1, #names, 2 do
    local s, b, session, spelled = string.match(names[i + 1], '^(%S+) (%S+) (%S+) (%S+)$')
    if s == server and not stays(b, session) then
      redis.call('HDEL', p .. 'names', names[i])
      push('all', 'k', 'left', 'w', spelled)
    end
  end
  for _, room in ipairs(redis.call('HKEYS', p .. 'rooms')) do
    local members = redis.call('HGETALL', p .. 'room:' .. room .. ':members')
    for i = 1, #members, 2 do
      local s, b, session, spelled = string.match(members[i + 1], '^(%S+) (%S+) (%S+) (%S+)$')
      if s == server and not stays(b, session) then
        redis.call('HDEL', p .. 'room:' .. room .. ':members', members[i])
        push('room:' .. room, 'k', 'left', 'w', spelled)
      end
    end
    end_if_empty(room)
  end
end
