#include "tests/support/http2_buffering_proxy.h"

#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <poll.h>
#include <unistd.h>
#include <vector>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/check.h"

namespace qsweep::testing {
namespace {

constexpr size_t kFrameHeader = 9;
constexpr uint8_t kData = 0;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kResetStream = 3;
constexpr uint8_t kEndStream = 1;

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  QSWEEP_CHECK(path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int Connect(const std::string& path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = AddressOf(path);
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    close(descriptor);
    return -1;
  }
  return descriptor;
}

bool WriteAll(int descriptor, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size = send(descriptor, bytes.data() + done,
                              bytes.size() - done, MSG_NOSIGNAL);
    if (size <= 0) {
      return false;
    }
    done += static_cast<size_t>(size);
  }
  return true;
}

// The frames of a server. Headers keep their order, which their compression
// needs; data waits.
class Frames {
 public:
  // What may go on now that these bytes have come.
  std::string Pass(const std::string& bytes, bool buffering) {
    incoming_ += bytes;
    std::string out;
    if (!buffering) {
      for (auto& [stream, held] : held_) {
        out += held;
      }
      held_.clear();
    }
    while (incoming_.size() >= kFrameHeader) {
      const auto byte = [this](size_t i) {
        return static_cast<uint8_t>(incoming_[i]);
      };
      const size_t size = kFrameHeader + (size_t{byte(0)} << 16 |
                                          size_t{byte(1)} << 8 | byte(2));
      if (incoming_.size() < size) {
        break;
      }
      const uint8_t type = byte(3);
      const bool ends =
          (type == kData || type == kHeaders) && (byte(4) & kEndStream) != 0;
      const uint32_t stream = uint32_t{byte(5)} << 24 |
                              uint32_t{byte(6)} << 16 | uint32_t{byte(7)} << 8 |
                              byte(8);
      const std::string frame = incoming_.substr(0, size);
      incoming_.erase(0, size);
      if (type == kResetStream) {
        held_.erase(stream);
      }
      if (buffering && type == kData && !ends) {
        held_[stream] += frame;
        continue;
      }
      if (ends) {
        out += held_[stream];
        held_.erase(stream);
      }
      out += frame;
    }
    return out;
  }

 private:
  std::string incoming_;
  std::map<uint32_t, std::string> held_;  // by stream
};

struct Connection {
  int client = -1;
  int server = -1;
  Frames frames;
  ~Connection() {
    close(client);
    close(server);
  }
};

// One read from each end that has something; false: it has ended.
bool Pump(Connection& connection, bool client_ready, bool server_ready,
          bool buffering) {
  char buffer[16 << 10];
  if (client_ready) {
    const ssize_t size = read(connection.client, buffer, sizeof(buffer));
    if (size <= 0 ||
        !WriteAll(connection.server,
                  std::string(buffer, static_cast<size_t>(size)))) {
      return false;
    }
  }
  std::string bytes;
  if (server_ready) {
    const ssize_t size = read(connection.server, buffer, sizeof(buffer));
    if (size <= 0) {
      return false;
    }
    bytes.assign(buffer, static_cast<size_t>(size));
  }
  return WriteAll(connection.client, connection.frames.Pass(bytes, buffering));
}

}  // namespace

Http2BufferingProxy::Http2BufferingProxy(const std::string& listen_path,
                                         const std::string& server)
    : server_(server) {
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  stop_ = eventfd(0, EFD_CLOEXEC);
  const sockaddr_un address = AddressOf(listen_path);
  QSWEEP_CHECK(bind(listener_, reinterpret_cast<const sockaddr*>(&address),
                    sizeof(address)) == 0);
  QSWEEP_CHECK(listen(listener_, 16) == 0);
  thread_ = std::thread([this] { Run(); });
}

Http2BufferingProxy::~Http2BufferingProxy() {
  eventfd_write(stop_, 1);
  thread_.join();
  close(listener_);
  close(stop_);
}

void Http2BufferingProxy::Run() {
  constexpr int kLookAgainMs = 20;  // whether it still buffers
  std::list<Connection> connections;
  while (true) {
    std::vector<pollfd> ready = {{.fd = stop_, .events = POLLIN},
                                 {.fd = listener_, .events = POLLIN}};
    for (const Connection& connection : connections) {
      ready.push_back({.fd = connection.client, .events = POLLIN});
      ready.push_back({.fd = connection.server, .events = POLLIN});
    }
    poll(ready.data(), ready.size(), kLookAgainMs);
    if (ready[0].revents != 0) {
      return;
    }
    size_t next = 2;
    for (auto it = connections.begin(); it != connections.end(); next += 2) {
      const bool stands = Pump(*it, ready[next].revents != 0,
                               ready[next + 1].revents != 0, buffering_);
      it = stands ? std::next(it) : connections.erase(it);
    }
    if (ready[1].revents != 0) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int server = client < 0 ? -1 : Connect(server_);
      if (server >= 0) {
        Connection& connection = connections.emplace_back();
        connection.client = client;
        connection.server = server;
      } else if (client >= 0) {
        close(client);
      }
    }
  }
}

}  // namespace qsweep::testing
