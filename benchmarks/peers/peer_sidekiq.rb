# Sidekiq, which keeps nothing of a finished job but its number: `sidekiq -r peer_sidekiq.rb` is a worker,
# `ruby peer_sidekiq.rb fill N` its producer.

require "json"
require "sidekiq"

SECONDS = ENV.fetch("JOB_SECONDS", "0").to_f

Sidekiq.logger.level = Logger::WARN
Sidekiq.configure_server { |config| config.redis = { url: ENV["REDIS_URL"] } }
Sidekiq.configure_client { |config| config.redis = { url: ENV["REDIS_URL"] } }

class Noop
  include Sidekiq::Worker

  def perform(number)
    sleep SECONDS if SECONDS > 0
    number
  end
end

if ARGV[0] == "fill"
  count = ARGV[1].to_i
  (0...count).each_slice(1000) do |numbers|
    Sidekiq::Client.push_bulk("class" => Noop, "args" => numbers.map { |number| [number] })
  end
  puts JSON.generate(count)
end
