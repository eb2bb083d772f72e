"""Tink, the other implementation of the format."""

from __future__ import annotations

import io

import tink
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

KEY_URL = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"


def primitive(secret: bytes) -> streaming_aead.StreamingAead:
    """Tink's AES256_GCM_HKDF_1MB with this main key."""
    streaming_aead.register()
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKeyFormat.FromString(template.value).params
    assert params.derived_key_size == 32
    assert params.hkdf_hash_type == common_pb2.SHA256
    assert params.ciphertext_segment_size == 1 << 20
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=secret)
    data = tink_pb2.KeyData(
        type_url=KEY_URL, value=key.SerializeToString(), key_material_type=tink_pb2.KeyData.SYMMETRIC
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    return handle.primitive(streaming_aead.StreamingAead)


class _KeptOpen(io.BytesIO):
    """Tink closes what it writes to."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


def encrypt(secret: bytes, content: bytes, associated: bytes) -> bytes:
    target = _KeptOpen()
    with primitive(secret).new_encrypting_stream(target, associated) as stream:
        stream.write(content)
    return target.kept


def decrypt(secret: bytes, stored: bytes, associated: bytes) -> bytes:
    """Raises what Tink raises where it does not open."""
    with primitive(secret).new_decrypting_stream(io.BytesIO(stored), associated) as stream:
        return stream.read()
