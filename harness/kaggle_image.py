"""What is known of Kaggle's machines and of the image that kernels run in. Data with its date, no logic.

Second-hand: Kaggle/docker-python's main branch and Colab's published freeze list of the date below, and
reports of users. The image moves without notice, so a kernel prints the versions that it finds, and what
is said here decides only what is checked and packed before a push.
"""

IMAGE_DATE = "2026-08"
IMAGE_SOURCE = "Kaggle/docker-python on Colab's runtime of 2026-05-14"
IMAGE_PYTHON = (3, 12)

# Wheels that its glibc (2.35) takes, newest first; pip is told each, since it expands none.
IMAGE_PLATFORMS = (
    "manylinux_2_35_x86_64",
    "manylinux_2_34_x86_64",
    "manylinux_2_31_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
)

# Distribution -> version; "" where it is there and the version was not recorded.
IMAGE_PACKAGES = {
    "albucore": "0.0.24",
    "albumentations": "2.0.8",
    "catboost": "",
    "einops": "",
    "h5py": "3.16.0",
    "huggingface-hub": "",
    "imageio": "",
    "jax": "0.7.2",
    "joblib": "",
    "kagglehub": "",
    "kornia": "",
    "lightgbm": "4.6.0",
    "matplotlib": "",
    "networkx": "",
    "numba": "0.60.0",
    "numpy": "2.0.2",
    "opencv-python": "4.13.0.92",
    "optuna": "",
    "packaging": "",
    "pandas": "2.2.2",
    "pillow": "11.3.0",
    "plotly": "",
    "psutil": "",
    "pyarrow": "18.1.0",
    "pydicom": "",
    "pytorch-lightning": "",
    "pywavelets": "1.9.0",
    "pyyaml": "",
    "requests": "",
    "safetensors": "",
    "scikit-image": "0.25.2",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "seaborn": "",
    "segment-anything": "",
    "simpleitk": "",
    "tensorflow": "2.20.0",
    "threadpoolctl": "",
    "tifffile": "2026.4.11",
    "timm": "1.0.26",
    "torch": "2.10.0",  # +cu128: no kernels for the retired P100
    "torchmetrics": "",
    "torchvision": "0.25.0",
    "tqdm": "",
    "transformers": "5.0.0",
    "triton": "3.6.0",
    "typing-extensions": "",
    "xgboost": "3.2.0",
}

# Import name -> distribution, where they differ by more than a dash.
IMPORT_DISTRIBUTIONS = {
    "PIL": "pillow",
    "SimpleITK": "simpleitk",
    "cv2": "opencv-python",
    "pywt": "pywavelets",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

# Machine shape -> what the service silently gives instead, since about 2026-09-14.
RETIRED_MACHINES = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
}

# Sessions that one account may have at once, and the accelerator hours of a week where the API tells none.
CONCURRENT_SESSIONS = {"gpu": 2, "cpu": 5, "tpu": 1}
WEEKLY_HOURS = {"gpu": 30.0, "tpu": 20.0}
