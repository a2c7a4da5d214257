"""A zero-latency stand-in for the upload of the Google Ads API: gRPC over TLS on loopback, takes every row at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.ads.googleads.v26.services.types import conversion_upload_service as upload

from convsync.sandbox.certificate import certificate_in

Request = upload.UploadClickConversionsRequest.pb()
Response = upload.UploadClickConversionsResponse.pb()
CALL = "google.ads.googleads.v26.services.ConversionUploadService"


def answer(request: upload.UploadClickConversionsRequest, context: grpc.ServicerContext) -> object:
    """Results of equal length and order, each with what Google repeats of a row."""
    response = Response(job_id=request.job_id)
    for row in request.conversions:
        response.results.add(
            gclid=row.gclid, conversion_action=row.conversion_action, conversion_date_time=row.conversion_date_time
        )
    return response


def main(folder: Path) -> None:
    certificate, key = certificate_in(folder)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
    method = grpc.unary_unary_rpc_method_handler(answer, Request.FromString, lambda made: made.SerializeToString())
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(CALL, {"UploadClickConversions": method})])
    pair = [(key.read_bytes(), certificate.read_bytes())]
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials(pair))
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
