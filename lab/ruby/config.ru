# A Rack service whose variants leak or not in known ways; see lab/services.toml.
#
#     VARIANT=token-cache puma --bind tcp://127.0.0.1:8080 config.ru

require 'json'
require 'jwt'
require 'zlib'

SECRET = 'heaptide-lab-hs256-secret' # the load generator signs with it
VARIANT = ENV.fetch('VARIANT', 'stateless')
TOKEN_BITS = 1 << 22

# The claims of tokens, and what is counted; used by all threads.
class Books
  def initialize
    @lock = Mutex.new
    @cache = {}
    @log = []
    @requests = Hash.new(0)
    @bits = "\0".b * (TOKEN_BITS / 8) # fixed: these counts must not grow
    @distinct = 0
  end

  def decode(token)
    JWT.decode(token, SECRET, true, algorithm: 'HS256').first
  rescue JWT::DecodeError
    nil
  end

  # Decoding is slow, so it is done once per token.
  def claims_for(token)
    @lock.synchronize { @cache[token] } || decode(token)&.tap { |claims| @lock.synchronize { @cache[token] = claims } }
  end

  # The oldest entry beyond `most` is evicted.
  def bounded_claims_for(token, most)
    claims = claims_for(token)
    @lock.synchronize { @cache.shift while @cache.size > most }
    claims
  end

  # Debugging code that was never removed.
  def log_response(claims, data)
    @lock.synchronize { @log << JSON.generate(active: true, claims: claims, data: data) }
  end

  def count(route, token)
    @lock.synchronize do
      @requests[route] += 1
      place = Zlib.crc32(token || '') % TOKEN_BITS
      byte, bit = place >> 3, 1 << (place & 7)
      if token && @bits.getbyte(byte) & bit == 0
        @bits.setbyte(byte, @bits.getbyte(byte) | bit)
        @distinct += 1
      end
    end
  end

  def truth
    @lock.synchronize do
      { variant: VARIANT, entries: @cache.size + @log.size, distinct_tokens: @distinct, requests: @requests,
        total_requests: @requests.values.sum }
    end
  end
end

BOOKS = Books.new

def data(token)
  claims = case VARIANT
           when 'token-cache' then BOOKS.claims_for(token)
           when 'lru-1024' then BOOKS.bounded_claims_for(token, 1024)
           else BOOKS.decode(token)
           end
  return [401, {}] unless claims

  items = (1..8).map { |id| { id: id, name: "item #{id} of #{claims['sub']}" } }
  data = { user: claims['sub'], items: items }
  BOOKS.log_response(claims, data) if VARIANT == 'introspection-log'
  [200, data]
end

def profile(token)
  claims = BOOKS.decode(token)
  claims ? [200, { sub: claims['sub'], email: claims['email'] }] : [401, {}]
end

def upload(env)
  [201, { bytes: env['rack.input'].read.bytesize }]
end

def respond(env)
  token = env['HTTP_AUTHORIZATION']&.delete_prefix('Bearer ')
  path = env['PATH_INFO']
  return [200, BOOKS.truth] if path == '/truth'

  BOOKS.count("#{env['REQUEST_METHOD']} #{path.start_with?('/users/') ? '/users/{id}' : path}", token)
  case path
  when '/api/data' then data(token)
  when '/api/profile' then profile(token)
  when '/api/upload' then upload(env)
  when '/health' then [200, 'ok']
  when %r{\A/users/} then [200, { id: path.delete_prefix('/users/') }]
  else [404, {}]
  end
end

run(lambda do |env|
  status, answer = respond(env)
  [status, { 'Content-Type' => 'application/json' }, [JSON.generate(answer)]]
end)
