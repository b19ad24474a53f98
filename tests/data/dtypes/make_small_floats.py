"""Writes small_floats.txt: every code of the narrow float types as the ml_dtypes package decodes it, one type per line.

Usage: python make_small_floats.py > small_floats.txt
"""
import ml_dtypes
import numpy as np

TYPES = {
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8e8m0": ml_dtypes.float8_e8m0fnu,
    "float4e2m1": ml_dtypes.float4_e2m1fn,
}

for name, dtype in TYPES.items():
    codes = np.arange(16 if name.startswith("float4") else 256, dtype=np.uint8)
    values = codes.view(dtype).astype(np.float64)
    print(name, *(str(v) if np.isnan(v) or np.isinf(v) else v.hex() for v in map(float, values)))
