"""A real RTSP server on loopback, of GStreamer's; the tests run it with Debian's own Python and end it as they like.

It prints its port once it listens. `--user` and `--password` make it ask for them, `--certificate` makes it speak TLS.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402 - versions come first

PICTURES = (
    "( videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width={width},height={height},framerate=15/1"
    " ! jpegenc ! rtpjpegpay name=pay0 )"
)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--certificate")
    parser.add_argument("--size", default="320x240")
    given = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(given.port)
    factory = GstRtspServer.RTSPMediaFactory()
    width, height = given.size.split("x")
    factory.set_launch(PICTURES.format(width=width, height=height))
    factory.set_shared(True)
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if given.user:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(given.user, given.password, token)
    else:
        auth.set_default_token(token)
    access = "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(access))
    if given.certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(given.certificate))
    server.set_auth(auth)
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main()
