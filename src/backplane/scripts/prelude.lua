-- What every script begins with. KEYS[1] is the chat's prefix; ARGV[1] the server's id, ARGV[2] its incarnation.
local p, id, incarnation = KEYS[1], ARGV[1], ARGV[2]
-- As words, because a number that becomes one takes as long as a whole command.
local KEEP, HOUR = '10000', '3600'

-- The server with that incarnation holds its lease. An owner begins with a server's id and incarnation.
local function alive(owner)
  local server, its_boot = string.match(owner, '^(%S+) (%S+)')
  return redis.call('GET', p .. 'srv:' .. server) == its_boot
end

-- Appends to a stream, and returns the new entry's id: 0-1, 0-2 and so on without a gap, so that a reader sees what it
-- has missed.
local function push(stream, ...)
  local entry = redis.call('XADD', p .. stream, 'MAXLEN', '~', KEEP, '0-*', ...)
  -- A stream that begins again after it was deleted counts from 1, which its readers must notice.
  if entry == '0-1' then redis.call('INCR', p .. stream .. ':born') end
  return entry
end

-- The last id that a stream has given, also if the entry is not kept any more.
local function last(stream)
  if redis.call('EXISTS', p .. stream) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', p .. stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

-- The last id of a stream, and how often it has begun.
local function place(stream)
  return last(stream) .. ' ' .. (redis.call('GET', p .. stream .. ':born') or '0')
end

-- What is in a server's inbox is nobody's any more. Its count goes on, should the server come back.
local function forget_inbox(server)
  redis.call('XTRIM', p .. 'inbox:' .. server, 'MAXLEN', 0)
  redis.call('EXPIRE', p .. 'inbox:' .. server, HOUR)
  redis.call('EXPIRE', p .. 'inbox:' .. server .. ':born', 2 * HOUR)
end

-- A room without members has ended: it is on no list, and what was said in it is not shown to the next.
local function end_if_empty(room)
  local key = p .. 'room:' .. room
  if redis.call('HLEN', key .. ':members') > 0 then return end
  redis.call('HDEL', p .. 'rooms', room)
  redis.call('DEL', key .. ':topic')
  redis.call('SET', key .. ':from', last('room:' .. room), 'EX', HOUR)
  redis.call('EXPIRE', key, HOUR)
  redis.call('EXPIRE', key .. ':born', 2 * HOUR)
end

-- Takes everybody of a server out of names and rooms, but for those for whom `stays` holds.
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
